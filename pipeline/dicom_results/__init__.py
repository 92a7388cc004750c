"""What a model said as DICOM that a PACS takes: a report a study, and a segmentation of the outlines.

`sources` are the headers of the images that results refer to; `finding` is what was found on a series, and by
which model; `codes` are the terms; `report` makes the report and `segmentation` the outlines; `results`
writes both for every study. `outlines` draws what a head called positive, and `scorer` is a model that is
ready to score one study after another. `results`, `outlines` and `scorer` are for others. highdicom is
imported where it is used: it comes with the extra ``pacs``.
"""
