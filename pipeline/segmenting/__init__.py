"""Which pixels are blood: trained on masks, drawn on slices, measured on masks.

`pixel_features` says what pixels are described by, `cell_numbers` what the built-in trunk says of them, and
`trunk` makes the network ready that hypercolumns are read from; `sampling` reads slices and masks and
describes pixels; `segmenter` is the trained model, and `segmenterfolder` its folder in a run; `training` fits
one, and `operating` chooses what it outlines; `drawing` draws many slices, `outlining` new ones, `overlay`
shows them, as `png`, and `study_measures` sums up studies; `agreement` measures outlines on test slices.
`trunk_training` trains weights for stage one on masks, on the planes of `trunk_planes`. From outside:
`trunk_training`, `drawing`, `outlining`, `overlay`, `segmenter`, `training` and `agreement`.
"""
