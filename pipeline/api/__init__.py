"""What a notebook needs: the public names of `haemo`, over the rooms that do the work.

`slices` reads one file and takes what a notebook has for slices, `embedding` and `transformer` are AlexNet's
embeddings as a function and as a step of scikit-learn's, `phantom` makes a cohort, `figures` judges scores.
`run` is a run directory with its steps as methods: on `features`, `training` and `own_model`, with `options`
by name; `model` is one that was handed over; `results` is what they give back. Only `haemo` itself names what
is in here.
"""
