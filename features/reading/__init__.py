"""One file, one slice.

`formats` is the entrance (`read_slice`, `read_header`) and has the table of formats, each a `format`;
`slice` is what comes out, with what a DICOM file says of its series (`series_tags`). `dicom_format` (with
`dicom`) and `raster` are those built in, `streams/` checks what they give to a decoder, `reader` reads from
many threads or processes. `dicom_attributes` reads what tells subgroups apart, when asked. From outside:
`formats`, `format`, `slice`, `series_tags`, `reader` and that.
"""
