"""A slice to what a network sees of it.

`preprocess` crops, windows and resizes to a plane (`Preprocessing`), `head_box` finds the head for it,
`augment` turns planes as the paper did. Everything here may be imported from outside.
"""
