"""Stage one: files to slices to embeddings in one HDF5 file; and the phantom cohort.

`manifest`, `labels` and `failures` are the nouns that all rooms share, and `neighbours` which slices lie
beside a slice. Rooms, each importing only from
those above it:

- `reading/`: one file to one slice.
- `views/`: a slice to what a network sees of it.
- `pixels/`: every pixel of a head in numbers, maps and outlines of blood, and true masks.
- `store/`: embeddings on disk.
- `extraction/`: slices through the network into the store.
- `cluster/`: the same on the workers of a Dask scheduler.
- `series/`: which series of a study is taken, and what is amiss with it.
- `outlines/`: DICOM outlines (SEG, RTSTRUCT) to masks of the slices that they are of.
- `layouts/`: a data folder to a manifest (of the other rooms it knows `reading/`, `pixels/`, `series/` and
  `outlines/` alone).
- `phantom/`: a synthetic cohort (knows no other room).
"""
