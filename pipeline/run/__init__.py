"""The run directory: fixed names, one writer at a time.

`directory` is the folder and its record (`RunDirectory`), `claim` lets one process at a time do a step,
`predictions` is predictions.csv (`Predictions`), the only input of evaluation, `attributes` is
attributes.csv, which tells subgroups apart and never trains. `codes` is what slices and patients are called
in what a run shares (`Codes`), `shown` is run.json without the paths of this machine. `readings` keeps what
people say of slices, blind to labels and models. `studylabels` are labels of studies and types of bleed,
`truemasks` masks that were drawn from DICOM outlines.
Everything here may be imported from outside.
`featuresets` opens the sets of features of a run (`open_features`).
"""
