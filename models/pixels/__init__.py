"""Classical classifiers of pixels: descriptors in, the probability of blood out.

`pixel_classifier` has them all, `trees` are the boosted ones as plain arrays. From outside:
`pixel_classifier`.
"""
