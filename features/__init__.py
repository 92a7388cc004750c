"""Stage one: files to slices to embeddings to one HDF5 feature store."""
