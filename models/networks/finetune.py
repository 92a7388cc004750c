"""AlexNet with a new last layer, to be trained end to end from stage one's weights."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from haemo.errors import BadSettings, WeightsUnavailable
from haemo.extensions import did_you_mean
from haemo.models.networks.end_to_end import EndToEndNetwork

__all__ = ["LAYERS", "AlexNetClassifier", "freeze_below", "load_pretrained"]

# Layers with weights, from the slice to the answer; their places in torchvision's state dict beside them.
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
_TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
}


class AlexNetClassifier(EndToEndNetwork):
    """torchvision's AlexNet for a few classes; slices are 227x227x3, normalised as for ImageNet.

    With ImageNet weights for the whole network, only the last layer (fc8) is new. Where nothing but the
    convolutional trunk conv1..conv5 is to be had, fc6 and fc7 give way to one new hidden layer of 256
    units: 4096 of them cannot be learned from some hundred slices, and cost 54 M parameters.

    Parameters
    ----------
    classes : int
        Number of classes.
    trunk : bool
        Whether there are pretrained weights for the trunk alone.
    """

    hidden_on_trunk = 256

    def __init__(self, classes: int = 2, *, trunk: bool = False):
        super().__init__()
        self.trunk = trunk
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 11, stride=4, padding=2),  # (64, 56, 56)
                relu1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(3, 2),  # (64, 27, 27)
                conv2=nn.Conv2d(64, 192, 5, padding=2),
                relu2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(3, 2),  # (192, 13, 13)
                conv3=nn.Conv2d(192, 384, 3, padding=1),
                relu3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(384, 256, 3, padding=1),
                relu4=nn.ReLU(inplace=True),
                conv5=nn.Conv2d(256, 256, 3, padding=1),
                relu5=nn.ReLU(inplace=True),
                pool5=nn.MaxPool2d(3, 2),  # (256, 6, 6)
            )
        )
        layers: dict[str, nn.Module] = {"flatten": nn.Flatten(), "drop6": nn.Dropout(0.5)}
        if trunk:
            layers["fc6"] = nn.Linear(9216, self.hidden_on_trunk)
            layers["relu6"] = nn.ReLU(inplace=True)
            layers["drop8"] = nn.Dropout(0.5)
            layers["fc8"] = nn.Linear(self.hidden_on_trunk, classes)
        else:
            layers["fc6"] = nn.Linear(9216, 4096)
            layers["relu6"] = nn.ReLU(inplace=True)
            layers["drop7"] = nn.Dropout(0.5)
            layers["fc7"] = nn.Linear(4096, 4096)
            layers["relu7"] = nn.ReLU(inplace=True)
            layers["fc8"] = nn.Linear(4096, classes)
        self.classifier = nn.Sequential(OrderedDict(layers))

    @property
    def pretrained(self) -> tuple[str, ...]:
        """Names of the layers that start from pretrained weights."""
        return LAYERS[:5] if self.trunk else LAYERS[:7]

    def layer(self, name: str) -> nn.Module:
        """The layer called `name`, e.g. ``conv3``."""
        return (self.features if name.startswith("conv") else self.classifier).get_submodule(name)


def load_pretrained(network: AlexNetClassifier, state: Mapping[str, torch.Tensor]) -> None:
    """Copy the pretrained layers of a torchvision state dict into `network`; the new ones stay as they are.

    Raises
    ------
    WeightsUnavailable
        If the state dict lacks a layer that `network` takes from it, or has it in another shape.
    """
    for name in network.pretrained:
        layer = network.layer(name)
        for kind, parameter in layer.named_parameters():
            key = f"{_TORCHVISION[name]}.{kind}"
            if key not in state or state[key].shape != parameter.shape:
                found = f"has it as {tuple(state[key].shape)}" if key in state else "does not have it"
                raise WeightsUnavailable(
                    f"fine-tuning needs {key} of shape {tuple(parameter.shape)}, and the weights' state dict "
                    f"{found}; give torchvision's AlexNet with --weights FILE"
                )
            with torch.no_grad():
                parameter.copy_(state[key])


def freeze_below(network: AlexNetClassifier, layer: str) -> None:
    """Keep every layer below `layer` as it is: no gradient is computed for it, nor through it.

    Raises
    ------
    BadSettings
        If `network` has no layer of that name.
    """
    names = [name for name in LAYERS if not (network.trunk and name == "fc7")]
    if layer not in names:
        raise BadSettings(
            f"--freeze-below {layer}: no such layer; there are {', '.join(names)}."
            f"{did_you_mean(layer, names)}"
        )
    for name in names[: names.index(layer)]:
        network.layer(name).requires_grad_(False)
