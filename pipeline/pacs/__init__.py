"""Studies in from a PACS, scored once, results back: a service that may be killed at any moment.

`state` is what became of each study, in SQLite; `inbox` puts images there, within limits; `receiving` takes
them by C-STORE and `pulling` by DICOMweb; `worker` scores what is complete and hands it to `delivery`, which
sends it by C-STORE or STOW-RS. `service` is a state folder that is open, `access` certificates, users and
tokens. Nothing of a patient is logged: a study is known by its case number. pynetdicom and dicomweb-client
come with the extra ``pacs``.
"""
