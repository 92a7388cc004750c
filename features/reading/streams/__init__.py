"""Heads of compressed streams, read before a decoder sees them.

Decoders are native code that trusts what it reads: a stream of some kilobytes that declares a giant picture
fills the memory, and the kernel then ends the process with all its other files. So what a stream declares is
read here first, and held against the header of its file (`described`). `jpeg2000`, `jpeg` (with JPEG-LS and
what every JPEG has), `lossless_jpeg`, `rle`, `deflate` and `tiff` know a kind of stream each.
"""
