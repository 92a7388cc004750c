"""Which series of a study is taken, and what is amiss with it: told by tags, without a pixel.

`choosing` is the entrance: slices of studies in, those of one series a study out. `series` is one series as
its slices make it; `kinds` tells what a series shows by its tags; `places` finds missing slices, doubled
positions, changing spacing, tilt and mixed thickness.
"""
