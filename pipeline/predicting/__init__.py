"""What a trained model says of new slices.

`trained_model` is a head or network, ready for use, `loading` that of a run, `blended_model` any model of it,
blends too (`load_model`); `prediction` takes it over files and folders, of which `taken` says what is scored;
`slice_scores` is what it said, a row a slice and a row a study; `studies` tells which slices belong together,
and `pooled` scores studies as a whole. Everything here may be imported from outside.
"""
