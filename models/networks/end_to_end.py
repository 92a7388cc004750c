"""What the networks that are trained end to end have in common."""

import torch
from torch import nn

__all__ = ["EndToEndNetwork"]


class EndToEndNetwork(nn.Module):
    """Convolutions, and above them layers that tell the classes apart.

    Attributes
    ----------
    features : Sequential
        From slices (b, channels, size, size) to the maps of the last convolution.
    classifier : Sequential
        From those maps to logits (b, classes).
    """

    features: nn.Sequential
    classifier: nn.Sequential

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes) of slices with values as the recipe of the network says."""
        return self.classifier(self.features(slices))
