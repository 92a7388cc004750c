"""TinyVGG: two blocks of two 3x3 convolutions with 10 channels, on 64x64 RGB."""

from collections import OrderedDict

import torch
from torch import nn

__all__ = ["TinyVGG"]


class TinyVGG(nn.Module):
    """The small network of the undergraduate thesis: 8,132 parameters, 6.74 M multiply-adds.

    Parameters
    ----------
    classes : int
        Number of classes.
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 10, 3, padding=1),  # (10, 64, 64)
                relu1=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(10, 10, 3, padding=1),
                relu2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(2),  # (10, 32, 32)
                conv3=nn.Conv2d(10, 10, 3, padding=1),
                relu3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(10, 10, 3, padding=1),
                relu4=nn.ReLU(inplace=True),
                pool4=nn.MaxPool2d(2),  # (10, 16, 16)
            )
        )
        self.classifier = nn.Sequential(OrderedDict(flatten=nn.Flatten(), fc5=nn.Linear(2560, classes)))

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes) of slices (b, 3, 64, 64) with values in 0..1."""
        return self.classifier(self.features(slices))
