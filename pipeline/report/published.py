"""The published figures that a run is set beside, with the protocol that they come from."""

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedResult"]


@dataclass(frozen=True)
class PublishedResult:
    """One published figure.

    Attributes
    ----------
    system : str
    model : str
        Name of the head or network of this project that rebuilds it.
    accuracy : str
    mse : str
        Empty where none was given.
    protocol : str
        Name of the protocol (`pipeline.splitting.split.Protocol`) that it was measured under.
    setting : str
        Data and protocol, in words.
    source : str
    """

    system: str
    model: str
    accuracy: str
    mse: str
    protocol: str
    setting: str
    source: str


_DAWUD = "Dawud, Yurtkan and Oztoprak 2019, Comput. Intell. Neurosci. 2019:4629859"
_ROTATED = "12,635 pictures = 7 rotations of 1,805 slices, then 70 / 30 at random"

PUBLISHED = (
    PublishedResult("AlexNet-SVM", "svm", "93.48 %", "0.054", "paper", _ROTATED, _DAWUD),
    PublishedResult("AlexNet, fine-tuned", "finetune", "92.13 %", "0.087", "paper", _ROTATED, _DAWUD),
    PublishedResult("CNN from scratch", "cnn", "90.65 %", "0.092", "paper", _ROTATED, _DAWUD),
    PublishedResult(
        "LeNet",
        "lenet",
        "about 99 % (positives only; an honest redo gave about 90 %)",
        "",
        "lenet",
        "140 slices, 75 / 25, validation and test the same",
        "message-board post",
    ),
    PublishedResult(
        "TinyVGG",
        "tinyvgg",
        "99.78 %",
        "",
        "thesis",
        "about 6,800 slices, 80 / 20 by slice",
        "undergraduate thesis",
    ),
)
"""In the order in which they are shown."""
