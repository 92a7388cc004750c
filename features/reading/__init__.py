"""One file, one slice.

`formats` is the entrance (`read_slice`, `read_header`) and has the table of formats; `slice` is what
comes out. `dicom` (with `jpeg`) and `raster` read the formats, `reader` reads from many threads or
processes. From outside: `formats`, `slice` and `reader`.
"""
