"""What training leaves behind in a run, and prediction takes up.

`modelfolder` is any model's folder; `headfolder` (with `persistence`) and `networkfolder` are those of
heads and of networks. `scope` is what a model knows, so that other slices are flagged. Everything here
may be imported from outside.
"""
