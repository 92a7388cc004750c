"""One file, one slice.

`formats` is the entrance (`read_slice`, `read_header`) and has the table of formats, each a `format`;
`slice` is what comes out. `dicom_format` (with `dicom` and `jpeg`) and `raster` are those built in,
`reader` reads from many threads or processes. From outside: `formats`, `format`, `slice` and `reader`.
"""
