"""Slices through the network into the store, each once.

`extract` is the entrance for a manifest (`extract_features`), `embedding` for any slices, with a store as its
memory (`embed_slices`); `decoding` turns files to planes beside the network that takes them, and `ledger`
keeps account of what is wanted and done. Everything here may be imported from outside.
"""
