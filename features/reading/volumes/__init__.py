"""Volumes: files that hold a whole scan. One slice after the other, as heads are seen.

`nifti`, `nrrd` and `metaimage` (with `text_header`) read the headers of three formats; each gives a `grid`, a
volume whose voxels lie on a grid with an affine. `voxels` is where these lie: in a file, or unpacked once
beside it. `enhanced` is DICOM with many frames, `enhanced_format` its entry in the table of formats, which
the others hold themselves. `nifti_file` writes. From outside: `grid` and `nifti_file`.
"""
