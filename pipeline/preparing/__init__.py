"""From a data folder to a manifest, and from a manifest to a feature store.

`indexing` is ``haemo index``, `attributes` what it keeps aside of patients and scans; `extraction` is
``haemo features`` (and how a run's extractor is loaded again), `outcome` what it says in the end, `recipes`
names sets of its options, `imports` takes embeddings made elsewhere, `pooling` makes rows of studies.
Everything here may be imported from outside.
"""
