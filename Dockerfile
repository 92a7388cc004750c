# haemo in a container.
#
#   docker build -t haemo .                                          runs on any machine
#   docker build -t haemo --build-arg VARIANT=cuda .                 and on NVIDIA GPUs: docker run --gpus all
#   docker build -t haemo --build-arg TORCH_INDEX=URL .              small: URL is the index of PyTorch's CPU builds
#   docker run --rm -v "$PWD:/data" haemo index slices --run runs/first
FROM python:3.12-slim-bookworm

ARG VARIANT=cpu
ARG TORCH_INDEX=""

COPY setup.cfg pyproject.toml README.md LICENSE requirements.lock /opt/haemo/
COPY containers/install /opt/haemo/containers/install
COPY haemo /opt/haemo/haemo
COPY models /opt/haemo/models
COPY features /opt/haemo/features
COPY pipeline /opt/haemo/pipeline
RUN sh /opt/haemo/containers/install /opt/haemo "$VARIANT" "$TORCH_INDEX"

# Of the driver on the host; without one they are passed over.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV HAEMO_CACHE=/cache
RUN useradd --create-home --uid 1000 haemo && mkdir /data /cache && chown haemo /data /cache
USER 1000
WORKDIR /data
ENTRYPOINT ["haemo"]
CMD ["--help"]
