"""A slice to what a network sees of it.

`preprocess` turns, crops, windows and resizes (by `resize`) to a plane (`Preprocessing`), and knows where
that lies on the slice (`View`). `head_box` finds the head for it, and `upright` how to turn it: by the
`midline` about which the inside of the skull mirrors, which `head_grid` finds on a grid of millimetres,
with masks widened by a `disk` and filled where they have `holes`; `head_plane` is the head of such a grid,
upright and from edge to edge. `augment` turns planes as the paper did.
Everything here may be imported from outside.
"""
