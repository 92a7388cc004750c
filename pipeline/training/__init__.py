"""Heads and networks trained on a run, and judged at once.

`head` is ``haemo svm`` and its like (`train_head`), by its `settings`, on `examples` from the store, with
`selection` of settings that keeps a `journal` to go on from, and `calibration` on enough folds; `resources`
say what it may take of the machine. `blend` joins heads that are there (`train_blend`). `types`
trains a head for each type of bleed. `network` is
``haemo cnn`` and its like (`train_network`), on `planes` that were decoded once. From outside: `head`,
`settings`, `types`, `blend`, `network`, `resources` and `planes`.
"""
