"""LeNet on 135x135 slices, as posted for the 140-slice set."""

from collections import OrderedDict

import torch
from torch import nn

from haemo.models.networks.end_to_end import EndToEndNetwork

__all__ = ["LeNet"]


class LeNet(EndToEndNetwork):
    """Two 5x5 convolutions and a hidden layer of 500; nearly all of its weights stand in that layer.

    The post does not say how many channels its input had. Slices are gray, and a network on three equal
    channels is one on a single channel whose kernels are their sums, so one channel it is.

    Parameters
    ----------
    classes : int
        Number of classes.
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 20, 5),  # (20, 131, 131)
                relu1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(2),  # (20, 65, 65)
                conv2=nn.Conv2d(20, 50, 5),  # (50, 61, 61)
                relu2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(2),  # (50, 30, 30)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc3=nn.Linear(50 * 30 * 30, 500),
                relu3=nn.ReLU(inplace=True),
                fc4=nn.Linear(500, classes),
            )
        )

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes) of slices (b, 1, 135, 135) with values in 0..1."""
        if not self.training:
            return self.classifier(self.features(slices))
        # The same network a quarter faster: a maximum and a ReLU may change places, and the ReLU then has a
        # quarter as much to do. To round 22.5 million weights to bfloat16 for every batch costs more than
        # their products do in float32.
        conv1, relu1, pool1, conv2, relu2, pool2 = self.features
        maps = relu1(pool1(conv1(slices)))
        maps = relu2(pool2(conv2(maps)))
        with torch.autocast(slices.device.type, enabled=False):
            return self.classifier(maps.float())
