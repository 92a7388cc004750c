"""The architectures, and how a network is run on this host.

`alexnet` is the frozen extractor (`load_extractor`), with `gray` (its conv1 for gray slices) and
`pooling`. `cnn`, `lenet`, `tinyvgg` and `finetune` are trained end to end; `end_to_end` is what they have in
common, and `layers` tells any of them layer by layer. `engine` settles device, precision and memory layout.
From outside: `alexnet`, `engine` and the networks' own modules.
"""
