"""What a person runs. Rooms, each importing only from those above it in this list:

- `run/`: the run directory, who works in it, and predictions.csv.
- `tracking/`: what was trained, told to the MLflow store that a team keeps.
- `splitting/`: which patients train and which test.
- `evaluation/`: what predictions are worth (knows no model).
- `trained/`: what training leaves behind: folders of heads and networks.
- `preparing/`: a data folder to a manifest, a manifest to a feature store.
- `training/`: heads and networks trained on a run, and judged at once.
- `predicting/`: what a trained model says of new slices.
- `segmenting/`: which pixels are blood, learned from masks.
- `dicom_results/`: what was found as DICOM, a report a study and a segmentation of the outlines.
- `pacs/`: studies in from a PACS, scored once, results back.
- `explaining/`: where on a slice the evidence of a trained model is, and outlines.
- `report/`: one page to show to others, and pictures.
- `packing/`: a trained model as one file to hand over, and back.
- `exporting/`: a trained model as ONNX, and scored without PyTorch.
- `judging/`: models judged, untouched, on slices of elsewhere.
- `serving/`: the reader's page, which shows in a browser what the rooms above say of studies.
- `api/`: what a notebook needs, under the public names of `haemo`; nothing else imports it.
- `cli/`: the command line; nothing imports it. `doctor` looks at the machine for it.
"""
