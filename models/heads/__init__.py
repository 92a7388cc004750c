"""The classical classifiers on embeddings.

`spec` names them and their default grids (`HeadSpec`); `mlp` and `scaling` are estimators of our own,
`calibration` turns scores into probabilities (`CalibratedHead`), `thresholds` chooses the operating
point. Everything here may be imported from outside.
"""
