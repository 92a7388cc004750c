"""Embeddings on disk: one HDF5 file, found by what was seen, whole whatever happens.

`store` is the entrance (`FeatureStore`), `table` what a head stands on: one or several of them, and
neighbours beside each slice (`FeatureTable`); `storefile` is the file as it lies on disk, `shards` the
finished parts of one that is being made, `contents` which pixels stand behind each slice, `fingerprint`
everything that changes an embedding, `verify` reads all of it back. Everything here may be imported from
outside.
"""
