"""Outlines that people or programs drew, as DICOM keeps them (SEG, RTSTRUCT), on the slices that they are of.

`truth` is the entrance: files of outlines and slices in, a mask for each slice out, with what was not blood,
not there, or not clear. `segmentation` reads SEG, `contours` RTSTRUCT, both to a `drawing`: pieces of named
segments; `plane` is where pixels lie in the patient. From outside: `truth`.
"""
