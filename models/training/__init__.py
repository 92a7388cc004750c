"""Networks trained end to end.

`recipes` says what each network is fed and how it is trained, `batches` feeds it, `loop` trains
(`train`), `history` keeps how that went, `checkpoint` is the file of weights, `trained` a network ready
for use (`TrainedNetwork`), and `cnn_extractor` the scratch CNN in AlexNet's place in stage one; `blood_trunk`
trains AlexNet's convolutions further to say where blood is, on planes that `plane_looks` varies.
Everything here may be imported from outside.
"""
