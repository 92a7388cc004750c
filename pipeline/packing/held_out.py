"""What a model said of slices held out of its training, in numbers without a name, for a bundle."""

import numpy as np

from haemo.pipeline.run.predictions import Predictions

__all__ = ["as_bytes", "of_bytes"]

_NUMBERS = ("scores", "probabilities")
_UNITS = ("patient", "study")


def as_bytes(held_out: Predictions) -> bytes:
    """Scores, probabilities and truth of two classes, with numbers for patients and studies.

    Rows come by patient, study and score, so that their order says nothing either.
    """
    from safetensors.numpy import save

    units = {name: np.unique(getattr(held_out, name), return_inverse=True)[1] for name in _UNITS}
    order = np.lexsort([held_out.scores, units["study"], units["patient"]])
    columns = {name: getattr(held_out, name).astype(np.float64) for name in _NUMBERS}
    columns |= {name: values.astype(np.int32) for name, values in units.items()}
    columns["positive"] = (held_out.label == held_out.positive).astype(np.uint8)
    columns["fold"] = held_out.fold.astype(np.int32)
    return save({name: np.ascontiguousarray(values[order]) for name, values in columns.items()})


def of_bytes(data: bytes, classes: tuple[str, ...]) -> Predictions:
    """Read what `as_bytes` gave; its slices, patients and studies are called by their numbers.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        columns = load(data)
        count = len(columns["scores"])
        numbers = {name: columns[name].astype(np.float64) for name in _NUMBERS}
        units = {name: columns[name].astype(str) for name in _UNITS}
        positive, fold = columns["positive"].astype(int), columns["fold"].astype(int)
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
    shapes = {values.shape for values in (*numbers.values(), *units.values(), positive, fold)}
    if len(classes) != 2 or shapes != {(count,)} or not np.isin(positive, (0, 1)).all():
        raise ValueError("what was held out is no table")
    chances, names = numbers["probabilities"], np.array(classes)
    if not (np.isfinite(numbers["scores"]).all() and ((chances >= 0) & (chances <= 1)).all()):
        raise ValueError("what was held out has numbers that are none")
    return Predictions(
        slice_id=np.arange(count).astype(str),
        patient=units["patient"],
        study=units["study"],
        label=names[positive],
        part=np.full(count, "cv"),
        fold=fold,
        scores=numbers["scores"],
        probabilities=chances,
        predicted=names[(chances >= 0.5).astype(int)],
        classes=tuple(classes),
    )
