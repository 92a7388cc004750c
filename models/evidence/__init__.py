"""Where on a slice the score of a head comes from.

`explain` is the entrance: maps from the last convolution through any head. `decision` writes fitted
scikit-learn heads in torch, so that they have gradients; `maps` are the methods; `cut` finds where a network
other than AlexNet is cut for them, and `both_sides` explains one that sees mirror images too; `activations`
runs what lies below the cut. From outside: `explain`, and `maps.METHODS`.
"""
