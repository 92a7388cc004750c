"""The classical classifiers on embeddings.

`kinds` is the table of them and of what plug-ins add (`HEAD_KINDS`), `spec` one of them with its options
(`HeadSpec`); `mlp`, `scaling` and `log_odds` are estimators of our own,
`calibration` turns scores into probabilities (`CalibratedHead`), `thresholds` chooses the operating
point. Everything here may be imported from outside.
`blending` joins calibrated heads in one (`LogitBlend`).
"""
