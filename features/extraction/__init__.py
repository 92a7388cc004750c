"""Slices through the network into the store, each once.

`extract` is the entrance (`extract_features`); `decoding` turns files to planes beside the network that
takes them. Everything here may be imported from outside.
"""
