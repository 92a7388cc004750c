"""Volumes: files that hold a whole scan. One slice after the other, as heads are seen.

`nifti`, `nrrd` and `metaimage` read the headers of three formats, each with its entry in the table of
formats; each gives a `grid`, a volume whose voxels lie on a grid with an affine. `voxels` is where these lie:
in a file, or unpacked once beside it. From outside: `grid`.
"""
