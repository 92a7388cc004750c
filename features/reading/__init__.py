"""From a file, or one place in it, to one slice.

`formats` is the entrance (`read_slice`, `read_header`) and has the table of formats, each a `format`; `slice`
is what comes out, with what a DICOM file says of its series (`series_tags`), and `address` what it is called.
`dicom_format` (with `dicom`, `dicom_header`, for common files `plain_dataset` and, for the bytes that pydicom
gets, `dicom_stream`) and `raster` are those built in, and those in `volumes/`, which give a `volume` of
slices. `orientation` says how a slice is turned to be seen, `unit` what its numbers are; `streams/` checks
what is given to a decoder, and `said` keeps what it says. `reader` is the entrance for files that may do
harm: what is not `plain` is decoded in a process with limits (`decoders`, `worker`), from memory that is used
again (`freed_memory`). `dicom_attributes` reads what tells subgroups apart, when asked. From outside: all but
`dicom`, `dicom_header`, `plain_dataset` and `raster`.
"""
