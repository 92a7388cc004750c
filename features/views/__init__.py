"""A slice to what a network sees of it.

`preprocess` crops, windows and resizes (by `resize`) to a plane (`Preprocessing`), `head_box` finds the head
for it, `augment` turns planes as the paper did. `head_grid` brings a slice to millimetres and finds the
inside of the skull and, by `midline`, the line about which it mirrors. Everything here may be imported from
outside.
"""
