"""What slices are called elsewhere, in the words of a model."""

from collections.abc import Iterable, Sequence

from haemo.errors import BadDataset
from haemo.features.labels import names_bleed_type, says_bleed, says_normal
from haemo.pipeline.evaluation.units import background_of

__all__ = ["in_words_of"]


def in_words_of(classes: Sequence[str], labels: Iterable[str], positive: str | None = None) -> dict[str, str]:
    """Which class of a model each label means.

    Parameters
    ----------
    classes : sequence of str
        Of the model; of two the second is the positive one.
    labels : iterable of str
        Those of the slices, without the empty one.
    positive : str, optional
        The label that means the model's positive class, where words do not say so.

    Returns
    -------
    dict of str to str
        Label to class. Of two classes the one that says so is normal, and every type of bleed is the other.

    Raises
    ------
    BadDataset
        If it cannot be told what a label means.
    """
    labels = sorted(set(labels))
    if set(labels) <= set(classes) and positive is None:
        return {label: label for label in labels}
    if len(classes) != 2:
        strange = next(label for label in labels if label not in classes)
        raise BadDataset(
            f"the label {strange!r} is none of the model's classes {', '.join(classes)}; with more than two "
            "classes labels must have the same names"
        )
    background = background_of(classes)
    bleed = next((one for one in classes if one != background), classes[1])
    found = {}
    for label in labels:
        if positive is not None:
            found[label] = classes[1] if label == positive else classes[0]
        elif label in classes:
            found[label] = label
        elif background is not None and says_normal(label):
            found[label] = background
        elif background is not None and (names_bleed_type(label) or says_bleed(label)):
            found[label] = bleed
        else:
            raise BadDataset(
                f"whether the label {label!r} means {classes[0]} or {classes[1]} cannot be told; say which "
                f"one is {classes[1]}: --positive LABEL"
            )
    if positive is not None and positive not in labels:
        raise BadDataset(f"--positive {positive}: the labels here are {', '.join(labels) or 'none'}")
    return found
