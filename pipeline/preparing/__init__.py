"""From a data folder to a manifest, and from a manifest to a feature store.

`indexing` is ``haemo index``, `extraction` is ``haemo features`` (and how a run's extractor is loaded
again), `recipes` names sets of its options, `imports` takes embeddings made elsewhere. Everything here may be
imported from outside.
"""
