"""Every pixel of a head in numbers: where it lies, and what it and its surroundings are like.

`head_grid` brings a slice to millimetres and finds the inside of the skull and, by `midline`, its midline;
`descriptors` says of each pixel inside what a classifier of pixels reads; `variation` draws other looks of a
slice to learn from. `blood_map` is what a classifier says over a slice, `region` one piece that is outlined,
`masks` are true ones. Everything here may be imported from outside.
"""
