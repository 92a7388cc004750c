"""The architectures, and how a network is run on this host.

`table` has the networks of stage one by name, `frozen` says what is asked of one, and `extractor` embeds
planes through any of them; `mirrored` shows one each plane and its mirror image. `alexnet` is the first
(`load_extractor`), with `gray` (its conv1 for gray slices) and `pooling`; `hypercolumns` reads its
convolutions at single pixels, and `blood_cells` has a layer on them that says which cells hold blood;
`unit_maps` interpolates both. For answers alone `packed` lays out weights once, and `plane_maps` takes gray
levels as they are.
`pretrained` is any other one, run up to a layer, and `torchvision_models` are torchvision's. `cnn`, `lenet`,
`tinyvgg` and `finetune` are trained end to end; `end_to_end` is what they have in common, and `layers` tells
any of them layer by layer. `engine` settles device, precision and memory layout, `device_memory` how much a
GPU takes at once. From outside: `table`, `frozen`, `mirrored`, `alexnet`, `hypercolumns`, `blood_cells`,
`plane_maps`, `pretrained`, `engine`, `device_memory` and the networks' own modules.
"""
