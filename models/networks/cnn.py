"""The scratch CNN: a plain stack of the AlexNet era on 227x227x3, trained on the slices alone."""

from collections import OrderedDict

import torch
from torch import nn

from haemo.models.networks.end_to_end import EndToEndNetwork

__all__ = ["ScratchCNN"]


class ScratchCNN(EndToEndNetwork):
    """Four convolutions, three overlapping max-pools, one hidden layer with dropout.

    The paper shows its layer table only as a figure, so this is a choice: AlexNet's way down (11x11 with
    stride 4, then 5x5, then 3x3; overlapping 3x3 pools; ReLU; dropout before the linear layers) at about a
    quarter of its multiply-adds, without what came later (batch normalisation, residuals). Weights start as
    in He et al. 2015, biases at zero. docs/networks.md has the table. Values of slices are in -1..1.

    Parameters
    ----------
    classes : int
        Number of classes.
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 48, 11, stride=4),  # (48, 55, 55)
                relu1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(3, 2),  # (48, 27, 27)
                conv2=nn.Conv2d(48, 96, 5, padding=2),
                relu2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(3, 2),  # (96, 13, 13)
                conv3=nn.Conv2d(96, 128, 3, padding=1),
                relu3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(128, 128, 3, padding=1),
                relu4=nn.ReLU(inplace=True),
                pool4=nn.MaxPool2d(3, 2),  # (128, 6, 6)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop5=nn.Dropout(0.5),
                fc5=nn.Linear(128 * 6 * 6, 512),
                relu5=nn.ReLU(inplace=True),
                drop6=nn.Dropout(0.5),
                fc6=nn.Linear(512, classes),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.get_parameter("bias"))
        # Small last weights: the first loss is that of even odds, whatever the scale of the hidden layer.
        nn.init.normal_(self.classifier.get_parameter("fc6.weight"), std=0.01)

    def embed(self, slices: torch.Tensor) -> torch.Tensor:
        """Output of the hidden layer (b, 512) after its ReLU, for ``haemo features --network cnn``."""
        return self.classifier[:4](self.features(slices))
