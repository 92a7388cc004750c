"""The networks of stage one by name: AlexNet, torchvision's, the scratch CNN, and those of plug-ins."""

from haemo.extensions import Extensions, unknown
from haemo.models.networks.frozen import PENULTIMATE, FrozenNetwork

__all__ = ["FROZEN_NETWORKS", "TORCHVISION", "default_layer", "frozen_network"]

FROZEN_NETWORKS: Extensions[FrozenNetwork] = Extensions(
    "network",
    "haemo.networks",
    FrozenNetwork,
    {
        "alexnet": "haemo.models.networks.alexnet:ALEXNET",
        "cnn": "haemo.models.training.cnn_extractor:SCRATCH_CNN",
    },
)

# torchvision has some eighty of them, and to import it for their names takes seconds: they are looked for
# under this prefix only when one is asked for, or an unknown name has to be answered.
TORCHVISION = "torchvision:"


def frozen_network(name: str) -> FrozenNetwork:
    """Give the network of this name.

    Raises
    ------
    BadSettings
        If there is none; the message asks for the nearest ones and lists all.
    BrokenExtension
        If it is of a plug-in that cannot be used.
    """
    if name in FROZEN_NETWORKS:
        return FROZEN_NETWORKS.get(name)
    from haemo.models.networks.torchvision_models import model_names, torchvision_network

    models = model_names()
    if name.removeprefix(TORCHVISION) in models and name.startswith(TORCHVISION):
        return torchvision_network(name.removeprefix(TORCHVISION))
    raise unknown("network", name, [*FROZEN_NETWORKS.names(), *(TORCHVISION + model for model in models)])


def default_layer(name: str) -> str:
    """The layer that a network is cut after unless another one is named."""
    return {"alexnet": "fc7", "cnn": "fc5"}.get(name, PENULTIMATE)
