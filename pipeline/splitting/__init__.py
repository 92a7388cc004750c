"""Which patients train and which test.

`cohort` answers for the slices, labels, patients and split of a run (`Cohort`). `split` is the noun (`Split`)
and how the honest one is drawn, `dealing` deals whole patients evenly, `protocols` are the published ways and
the entrance for training (`SplitRequest`, `split_for_training`), `copies` are the rotated slices that one of
them deals, `splitfile` is split.json and what may be used with it. Everything here may be imported from
outside.
"""
