"""AlexNet's embeddings as a step of a scikit-learn pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from haemo.errors import BadSettings
from haemo.pipeline.api.embedding import extract
from haemo.progress import Progress, silent

__all__ = ["AlexNetFeatures"]


class AlexNetFeatures(TransformerMixin, BaseEstimator):
    """Slices to AlexNet's embeddings: a frozen network, so nothing is learned from the data.

    A scikit-learn transformer without state: ``fit`` changes nothing, and a clone gives the same numbers.
    With a store, slices that were embedded before are not computed again, in any fold, search or session.

    Parameters
    ----------
    layer, crop, upright, mirror, window, windows, weights, seed
        As `haemo.extract` takes them.
    precision, device, units, store, workers, progress
        As `haemo.extract` takes them.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> features = AlexNetFeatures(layer="pool5", store="cache/pool5.h5")
    >>> model = make_pipeline(features, LinearSVC(C=1e-4))

    Notes
    -----
    A store holds embeddings of one kind. Where a search varies `layer`, `crop`, `upright`, `mirror`,
    `window` or `windows`, vary `store` with it: another kind in one store is refused.
    """

    def __init__(
        self,
        layer: str = "fc7",
        *,
        crop: str = "none",
        upright: bool = False,
        mirror: bool = False,
        window: str = "brain",
        windows: str | None = None,
        weights: str = "auto",
        seed: int = 0,
        precision: str = "auto",
        device: str = "auto",
        units: str | None = None,
        store: str | Path | None = None,
        workers: int | None = None,
        progress: Progress = silent,
    ):
        self.layer = layer
        self.crop = crop
        self.upright = upright
        self.mirror = mirror
        self.window = window
        self.windows = windows
        self.weights = weights
        self.seed = seed
        self.precision = precision
        self.device = device
        self.units = units
        self.store = store
        self.workers = workers
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> "AlexNetFeatures":
        """Learn nothing; `X` and `y` are not looked at."""
        del X, y
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed slices.

        Parameters
        ----------
        X : sequence of path, Slice or ndarray (height, width); or ndarray (n, height, width)

        Returns
        -------
        ndarray of shape (n, d), float32

        Raises
        ------
        HaemoError
            As `haemo.extract`.
        """
        return extract(X, **self.get_params(deep=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the numbers: ``fc7_0``, ``fc7_1`` and so on.

        With `mirror` first ``fc7_sum_0`` and so on, then ``fc7_difference_0``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (d,), object

        Raises
        ------
        BadSettings
            If there is no such layer.
        """
        from haemo.models.weights.imagenet import LAYERS

        del input_features
        if self.layer not in LAYERS:
            raise BadSettings(f"layer {self.layer!r} is not one of {', '.join(LAYERS)}")
        kinds = ("sum_", "difference_") if self.mirror else ("",)
        places = range(LAYERS[self.layer])
        return np.array([f"{self.layer}_{kind}{place}" for kind in kinds for place in places], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
