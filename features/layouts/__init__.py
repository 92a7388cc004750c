"""Readers of data set layouts: from a folder, as it was published or made, to a manifest."""

from features.layouts.indexing import LAYOUTS, Index, index_dataset

__all__ = ["LAYOUTS", "Index", "index_dataset"]
