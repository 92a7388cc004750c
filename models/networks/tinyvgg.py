"""TinyVGG: two blocks of two 3x3 convolutions with 10 channels, on 64x64 RGB."""

from collections import OrderedDict

from torch import nn

from haemo.models.networks.end_to_end import EndToEndNetwork

__all__ = ["TinyVGG"]


class TinyVGG(EndToEndNetwork):
    """The small network of the undergraduate thesis: 8,132 parameters, 6.74 M multiply-adds.

    Values of slices are in 0..1.

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
