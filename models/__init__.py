"""Networks and heads: arrays in, arrays out. Nothing here knows a file but weight files.

Rooms, each importing only from those above it in this list:

- `weights/`: ImageNet weights, and how they reach a machine.
- `networks/`: the architectures, and how a network is run on this host.
- `heads/`: the classical classifiers on embeddings, with their calibration and thresholds.
- `search/`: grid search over those heads.
- `training/`: networks trained end to end.
- `evidence/`: where on a slice the score of a head comes from.
- `pixels/`: classical classifiers of pixels (knows no other room).
"""
