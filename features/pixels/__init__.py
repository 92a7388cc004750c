"""Every pixel of a head in numbers: what it and its surroundings are like.

`descriptors` says of each pixel inside the skull (`features.views.head_grid`) what a classifier of pixels
reads, with `blurs` and `distances` on planes of 1 mm; `variation` draws other looks of a slice to learn from.
`blood_map` is what a classifier says over a slice, `region` one piece that is outlined, `masks` are true
ones, `packed` holds any in few bytes and `mask_volume` writes those of a scan.
Everything here may be imported from outside.
"""
