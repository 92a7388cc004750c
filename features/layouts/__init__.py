"""Readers of data set layouts: from a folder, as it was published or made, to a manifest.

`indexing` is the entrance and has the table of layouts, the most particular first: `rsna`, `ct_ich`,
`cq500`, `masked_volumes`, `head_ct`, `labels_csv`, `class_folders`, `dicom_tree`. They share `folder` (what
lies in a data folder), `archive` (what is unpacked to be read as a folder), `label_sets` (labels that one
class a slice cannot hold), `outlined` (what DICOM outlines say of slices), `table`, `workbook` and
`label_table` (tables as people make them) and `claims` (what a layout is, and what it says of slices before
they are opened). From outside: what this package itself names, `folder`, `archive`, and what finds the rows
of a table (`claims`, `table`, `label_table`, `labels_csv`; types of bleed by `rsna` and `ct_ich`).
"""

from haemo.features.layouts.indexing import LAYOUTS, Index, index_dataset

__all__ = ["LAYOUTS", "Index", "index_dataset"]
