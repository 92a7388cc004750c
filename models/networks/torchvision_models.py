"""torchvision's classification networks, each as its published ImageNet weights were made for it.

The input size is the crop of the transforms that torchvision publishes with a network's weights, and mean and
deviation are theirs (``torchvision.models.get_model_weights(NAME).DEFAULT.transforms()``). Slices are resized
to that square whole, as for AlexNet: no border is cropped, since a bleed may lie there.
"""

import re
from functools import cache, partial
from typing import TYPE_CHECKING

from haemo.models.networks.pretrained import PretrainedNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["model_names", "torchvision_network"]

# With their published weights these two normalise anew what they are given, unlike with any others.
_RENORMALISING = ("googlenet", "inception_v3")


@cache
def model_names() -> tuple[str, ...]:
    """Names of torchvision's classification networks, by the alphabet."""
    from torchvision import models

    return tuple(name for name in models.list_models(module=models) if name not in _RENORMALISING)


def torchvision_network(name: str) -> PretrainedNetwork:
    """The network that torchvision calls `name`."""
    from torchvision.models import get_model_weights

    published = get_model_weights(name).DEFAULT
    transforms = published.transforms()
    (size,) = transforms.crop_size
    return PretrainedNetwork(
        build=partial(_build, name, size),
        size=size,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        url=published.url,
        origin=f"torchvision {published}",
        rename=_present_names if name.startswith("densenet") else None,
    )


def _build(name: str, size: int) -> "nn.Module":
    from torchvision.models import get_model

    # A vision transformer has an embedding for each place, and so is made for one size.
    options = {"image_size": size} if name.startswith("vit_") else {}
    return get_model(name, weights=None, **options)


def _present_names(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The published DenseNets call ``norm.1`` what the module calls ``norm1``."""
    return {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): value for key, value in state.items()}
