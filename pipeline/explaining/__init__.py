"""Where on a slice the evidence for a bleed lies: maps, their outlines, and how true they are.

`explanation` explains new slices; `regions` outlines what is hot in a map.
`localisation` measures maps against true masks, and `perturbation` without any. From outside:
`explanation` and `localisation`.
"""
