"""Where the time of a slice goes in stage one, part by part on one thread, and what other decoders take.

    make bench-decoding
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 make bench-decoding

Milliseconds of CPU, of several goes the least: other work on the machine changes them little. The shares that
are printed last follow from them. The second line has the network compute as on a processor without AVX-512.
imagecodecs and simplejpeg are beside Pillow where they are installed, with whether their pixels are the same.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from peer import FORMATS, weights, write_slices

ROUNDS = 7
BATCH = 64
KEPT = 1024
SAMPLINGS = {"gray": None, "4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def least_ms(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """CPU that one item takes, each at its best."""
    best = np.full(len(items), np.inf)
    for _ in range(ROUNDS):
        for place, item in enumerate(items):
            start = time.thread_time()
            work(item)
            best[place] = min(best[place], time.thread_time() - start)
    return 1e3 * float(best.mean())


def processor() -> str:
    from haemo.models.networks.engine import has_bfloat16_hardware
    from haemo.processors import usable_processors

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = known.get("flags", "").split()
    has = {"AVX-512": "avx512f" in flags, "AMX": "amx_tile" in flags, "bfloat16": has_bfloat16_hardware()}
    kinds = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in has.items())
    number = "-".join(known.get(key, "") for key in ("cpu family", "model", "stepping"))
    return f"processor: {known.get('model name')} ({number}): {kinds}; {usable_processors()} in use"


def network() -> dict[str, float]:
    """Milliseconds a slice by precision."""
    import torch

    from haemo.models.networks.alexnet import load_extractor
    from haemo.models.networks.engine import Engine, has_bfloat16_hardware
    from haemo.pipeline.cli import prepare_libraries

    prepare_libraries()
    torch.set_num_threads(1)
    planes = np.random.default_rng(0).integers(0, 256, (BATCH, 227, 227), dtype=np.uint8)
    # An older processor that is played, by the second line above, has no bfloat16 in its hardware either.
    has_bfloat16 = has_bfloat16_hardware() and "ONEDNN_MAX_CPU_ISA" not in os.environ
    taken = {}
    for precision in ("float32", *(["bfloat16"] if has_bfloat16 else [])):
        extractor = load_extractor(weights(), engine=Engine("cpu", precision, "channels_last"))
        # What a thread of the stream does with a batch.
        taken[precision] = least_ms(extractor._embed, [planes]) / BATCH
        print(f"network to fc7, {precision}: {taken[precision]:.2f} ms a slice", flush=True)
    return taken


class Ready:
    """A network whose embeddings cost nothing."""

    dimension, batch = 4096, BATCH

    def __init__(self) -> None:
        self._embeddings = np.random.default_rng(0).standard_normal((BATCH, self.dimension), dtype=np.float32)

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for planes in batches:
            yield self._embeddings[: len(planes)].copy()


def keeping() -> float:
    """Milliseconds a slice for what is neither decoding nor network: threads, parts, checks, store."""
    from haemo.features.extraction.decoding import Decoded
    from haemo.features.extraction.extract import Extraction, ExtractionRequest, fill_store
    from haemo.features.manifest import Manifest, ManifestRow
    from haemo.features.store.fingerprint import Fingerprint
    from haemo.progress import silent

    plane = np.zeros((1, 227, 227), np.uint8)
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(KEPT)]
    manifest = Manifest(ManifestRow(name, Path(name), "", name, name) for name in names)

    def work(store: Path) -> float:
        start = time.process_time()
        fill_store(
            manifest,
            store,
            Fingerprint({"network": "none"}),
            {},
            ExtractionRequest(),
            lambda ledger, shards: Extraction(ledger, Ready(), shards).compute(
                lambda path: Decoded(-1, -1, path.name, (0,), plane, False), 2, silent
            ),
        )
        return 1e3 * (time.process_time() - start) / KEPT

    with tempfile.TemporaryDirectory() as folder:
        return min(work(Path(folder) / f"{number}.h5") for number in range(4))


def parts(folder: Path, kind: str) -> float:
    """Milliseconds a slice of decoding, all of it."""
    from haemo.features.extraction.decoding import Decoder
    from haemo.features.reading.formats import read_slice
    from haemo.features.reading.reader import read_guarded
    from haemo.features.reading.slice import content_hash
    from haemo.features.views.preprocess import Preprocessing

    preprocessing = Preprocessing()
    paths = sorted((folder / kind).iterdir())
    slices = [read_slice(path) for path in paths]
    decoder = Decoder(preprocessing, lambda content: (0,), read_guarded)
    whole = least_ms(decoder, paths)
    found = {
        "reading": least_ms(read_guarded, paths),
        "hash": least_ms(content_hash, slices),
        "window and resize": least_ms(preprocessing.plane, slices),
    }
    said = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in found.items())
    print(f"{kind}: {whole:.2f} ms a slice: {said}", flush=True)
    return whole


def pillow(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(BytesIO(data)))


def others() -> Iterator[tuple[str, str, Callable[[bytes], np.ndarray]]]:
    """Format, name and function of decoders beside Pillow that are installed."""
    try:
        import imagecodecs
    except ImportError:
        pass
    else:
        yield "png", f"imagecodecs, {imagecodecs.png_version()}", imagecodecs.png_decode
        yield "jpeg", f"imagecodecs, {imagecodecs.jpeg8_version()}", imagecodecs.jpeg8_decode
    try:
        import simplejpeg
    except ImportError:
        return

    def decode(data: bytes) -> np.ndarray:
        _, _, space, _ = simplejpeg.decode_jpeg_header(data)
        pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY" if space == "Gray" else "RGB")
        return pixels[..., 0] if space == "Gray" else pixels

    yield "jpeg", f"simplejpeg {simplejpeg.__version__}", decode


def beside(folder: Path) -> Iterator[str]:
    for kind in ("png", "jpeg"):
        files = [path.read_bytes() for path in sorted((folder / kind).iterdir())]
        yield f"{kind}, Pillow: {least_ms(pillow, files):.2f} ms"
        for own, name, decode in others():
            if own == kind:
                checked = files if kind == "png" else [*files, *jpegs()]
                same = sum(np.array_equal(decode(data), pillow(data)) for data in checked)
                took = f"{least_ms(decode, files):.2f} ms"
                yield f"{kind}, {name}: {took}; the same pixels in {same} of {len(checked)} files"


def jpegs() -> Iterator[bytes]:
    """A picture of odd sides in many qualities and subsamplings."""
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 256, (67, 61, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
    for sampling in SAMPLINGS.values():
        picture = Image.fromarray(colours[..., 0] if sampling is None else colours)
        options = {} if sampling is None else {"subsampling": sampling}
        for quality in range(5, 101, 5):
            stream = BytesIO()
            picture.save(stream, "JPEG", quality=quality, **options)
            yield stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=16, help="of each format")
    options = parser.parse_args()
    print(processor())
    networks, kept = network(), keeping()
    print(f"threads and store: {kept:.2f} ms a slice", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_slices(folder, options.slices)
        decoding = {kind: parts(folder, kind) for kind in FORMATS}
        for line in beside(folder):
            print(line, flush=True)
    for precision, taken in networks.items():
        shares = (f"{kind} {100 * taken / (taken + decoding[kind] + kept):.0f} %" for kind in FORMATS)
        print(f"share of the network, {precision}: {', '.join(shares)}")


if __name__ == "__main__":
    main()
