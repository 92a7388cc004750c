"""What each network is fed and how it is trained unless asked otherwise, with where that comes from."""

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings
from haemo.extensions import unknown

if TYPE_CHECKING:
    from haemo.models.networks.end_to_end import EndToEndNetwork

__all__ = ["AUGMENTATIONS", "RECIPES", "Recipe", "TrainingSettings", "build", "recipe_for"]

AUGMENTATIONS = ("rotate", "flip", "crop")
_CHOICES = {
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "cosine"),
    "class_weight": ("balanced", "none"),
    "precision": ("auto", "float32", "bfloat16"),
}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Passes over the training slices, at most.
    batch_size : int
    optimizer : str
        ``adam`` or ``sgd``.
    learning_rate : float
        Of layers that start from random weights.
    pretrained_rate : float
        Learning rate of pretrained layers, as a multiple of `learning_rate`.
    momentum : float
        Of ``sgd``.
    weight_decay : float
    schedule : str
        ``constant``, or ``cosine``: down to nothing over `epochs`.
    class_weight : str
        ``balanced`` weighs the loss of each class by the inverse of its share; ``none`` does not.
    patience : int
        Stop when the validation loss has not fallen for this many epochs; 0 never stops early. The weights
        of the best epoch are kept either way.
    augment : tuple of str
        Of `AUGMENTATIONS`, drawn anew each epoch, for training slices only: ``rotate`` by 0 or one of the
        paper's six angles, ``flip`` left and right, ``crop`` at random from a larger plane.
    clip_norm : float
        Largest norm of the gradient of all parameters together; longer ones are shortened to it.
    precision : str
        ``float32``, ``bfloat16`` or ``auto``: bfloat16 where the hardware has it. Of training only.
    seed : int
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    pretrained_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    class_weight: str = "balanced"
    patience: int = 5
    augment: tuple[str, ...] = ()
    clip_norm: float = 5.0
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise BadSettings(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise BadSettings(f"augment has {name!r}; it may have {', '.join(AUGMENTATIONS)}")
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise BadSettings(f"{name} is {getattr(self, name)}; it must be more than 0")
        for name in ("pretrained_rate", "momentum", "weight_decay", "patience", "seed"):
            if not getattr(self, name) >= 0:
                raise BadSettings(f"{name} is {getattr(self, name)}; it must not be negative")

    def with_options(self, **options: Any) -> "TrainingSettings":
        """These settings with those of `options` that are not None in their place."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    def describe(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return {**asdict(self), "augment": list(self.augment)}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "TrainingSettings":
        """The settings that `describe` was called on; an unknown key is a BadSettings."""
        others = set(description) - {field.name for field in fields(cls)}
        if others:
            raise BadSettings(f"unknown training setting {sorted(others)[0]!r}")
        return cls(**{**description, "augment": tuple(description["augment"])})


@dataclass(frozen=True)
class Recipe:
    """A network, its input, and the settings it is trained with by default.

    Attributes
    ----------
    name : str
    title : str
        What it is, in a few words.
    input_size : int
        Side of its square input, in pixels.
    channels : int
        3 is the gray plane three times.
    mean, std : tuple of float, one a channel
        The input is (gray / 255 - mean) / std.
    crop_margin : int
        With the augmentation ``crop`` the plane is larger than the input by so many pixels: a random window
        of it is trained on, the one in the middle is evaluated.
    settings : TrainingSettings
    """

    name: str
    title: str
    input_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_margin: int
    settings: TrainingSettings

    def plane_size(self, augment: tuple[str, ...]) -> int:
        """Side of the square plane that a slice is resized to."""
        return self.input_size + (self.crop_margin if "crop" in augment else 0)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="cnn",
            title="convolutional network from scratch",
            input_size=227,
            channels=3,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            crop_margin=29,  # 227 from 256, as AlexNet was trained (Krizhevsky et al. 2012)
            settings=TrainingSettings(
                epochs=30,
                batch_size=32,
                optimizer="adam",
                learning_rate=3e-4,
                weight_decay=1e-4,
                schedule="cosine",
                patience=10,
                augment=("rotate", "flip"),
            ),
        ),
        Recipe(
            name="finetune",
            title="AlexNet, fine-tuned",
            input_size=227,
            channels=3,
            mean=(0.485, 0.456, 0.406),  # of ImageNet, as for stage one
            std=(0.229, 0.224, 0.225),
            crop_margin=29,
            settings=TrainingSettings(
                epochs=20,
                batch_size=32,
                optimizer="adam",
                learning_rate=3e-4,
                pretrained_rate=0.1,
                weight_decay=1e-4,
                schedule="cosine",
                patience=6,
                augment=("rotate", "flip"),
            ),
        ),
        Recipe(
            name="lenet",
            title="LeNet",
            input_size=135,
            channels=1,
            mean=(0.0,),
            std=(1.0,),
            crop_margin=4,  # 135 from 139, as posted
            settings=TrainingSettings(
                epochs=10, batch_size=64, optimizer="adam", learning_rate=1e-3, patience=0
            ),
        ),
        Recipe(
            name="tinyvgg",
            title="TinyVGG",
            input_size=64,
            channels=3,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            crop_margin=4,
            settings=TrainingSettings(
                epochs=20, batch_size=32, optimizer="adam", learning_rate=1e-3, patience=0
            ),
        ),
    )
}


def recipe_for(name: str) -> Recipe:
    """The recipe of a network; BadSettings if there is no such network."""
    if name not in RECIPES:
        raise unknown("network", name, RECIPES)
    return RECIPES[name]


def build(name: str, classes: int, *, seed: int = 0, trunk: bool = False) -> "EndToEndNetwork":
    """A network with random weights, the same for the same seed.

    Parameters
    ----------
    name : str
        Of `RECIPES`.
    classes : int
        Number of classes.
    seed : int
    trunk : bool
        For ``finetune``: whether pretrained weights are to be had for conv1..conv5 alone.
    """
    import torch

    recipe_for(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        match name:
            case "cnn":
                from haemo.models.networks.cnn import ScratchCNN

                return ScratchCNN(classes)
            case "finetune":
                from haemo.models.networks.finetune import AlexNetClassifier

                return AlexNetClassifier(classes, trunk=trunk)
            case "lenet":
                from haemo.models.networks.lenet import LeNet

                return LeNet(classes)
            case _:
                from haemo.models.networks.tinyvgg import TinyVGG

                return TinyVGG(classes)
