"""Kinds of heads: which classifier each is, and the values that are searched for it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from haemo.errors import BadSettings
from haemo.extensions import Extensions, did_you_mean

__all__ = ["HEAD_KINDS", "KERNEL_SVMS", "Grid", "HeadKind", "foreign_kind"]

Grid = dict[str, list[Any]]

# LinearSVC penalises its intercept as if it were one more weight of a constant feature of this size. At 1 the
# intercept of standardised 4096-d features is held near 0, which cost 3 points of AUC; from 10 on it is free.
_INTERCEPT_SCALING = 10.0
_LINEAR_ITERATIONS = 20_000
_SOFTMAX_ITERATIONS = 2_000


@dataclass(frozen=True)
class HeadKind:
    """A classifier of scikit-learn's kind, and how it is searched.

    Attributes
    ----------
    estimator : str
        Its class, as ``package.module.Class``.
    grid : mapping of str to list
        Values that are searched unless others are given; empty searches nothing.
    searched : tuple of str, optional
        Parameters that a grid may name; None is all that the estimator has.
    options : mapping of str to object
        Parameters that are not left at the estimator's own defaults.
    log_odds : bool
        Whether decision scores are log odds, so that probabilities may go without calibration.
    reads_blocks : bool
        Whether it can be trained on features that are read in blocks, larger than memory. Only for
        estimators that `models.search.grid` has a block solver of.
    """

    estimator: str
    grid: Mapping[str, list[Any]] = field(default_factory=dict)
    searched: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    log_odds: bool = False
    reads_blocks: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that a grid may search."""
        return tuple(sorted(self._made().get_params(deep=False))) if self.searched is None else self.searched

    @property
    def takes_class_weight(self) -> bool:
        """Whether the estimator can weigh classes."""
        return "class_weight" in self._made().get_params(deep=False)

    def classifier(self, class_weight: str | None, seed: int) -> Any:
        """An unfitted classifier; weights and seed are set where it takes them.

        One that gives probabilities but no decision scores is wrapped, so that it has scores.
        """
        made = self._made()
        wanted = {"class_weight": class_weight, "random_state": seed} | dict(self.options)
        known = made.get_params(deep=False)
        made.set_params(**{name: value for name, value in wanted.items() if name in known})
        if hasattr(made, "decision_function"):
            return made
        from haemo.models.heads.log_odds import LogOdds

        return LogOdds(made)

    @property
    def prefix(self) -> str:
        """What stands before the name of a parameter of what `classifier` gives."""
        return "" if hasattr(self._made(), "decision_function") else "estimator__"

    def _made(self) -> Any:
        module, _, name = self.estimator.rpartition(".")
        return getattr(importlib.import_module(module), name)()


# Standardised embeddings have thousands of features, so a unit of C weighs much. On training patients of 200
# public slices and of four phantom cohorts of 60 to 100 patients (pool5) the best C of the linear SVM lay
# between 1e-4 and 0.1, that of softmax regression at 0.01 or 0.1; from 1e-2 on AUC moved by less than 0.01.
# The RBF kernel mostly wanted a width of 1e-5, a tenth of 1 / n_features, with C of 10 to 1000; there it is
# nearly a linear SVM, and 1e-6 won nothing.
SVM = HeadKind(
    "sklearn.svm.LinearSVC",
    grid={"C": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1]},
    searched=("C",),
    options={"intercept_scaling": _INTERCEPT_SCALING, "max_iter": _LINEAR_ITERATIONS},
    reads_blocks=True,
)
SOFTMAX = HeadKind(
    "sklearn.linear_model.LogisticRegression",
    grid={"C": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1]},
    searched=("C",),
    # Its solver draws nothing: a seed would only change what is written of it.
    options={"max_iter": _SOFTMAX_ITERATIONS, "random_state": None},
    log_odds=True,
    reads_blocks=True,
)
MLP = HeadKind(
    "haemo.models.heads.mlp.EarlyStoppingMLP",
    grid={"hidden": [32], "alpha": [1e-3, 1.0, 10.0]},
    searched=("hidden", "alpha", "learning_rate", "batch_size", "max_epochs", "patience"),
    log_odds=True,
)


def _kernel_svm(kernel: str, grid: Grid, searched: tuple[str, ...], **options: Any) -> HeadKind:
    # SVC draws only for probabilities of its own, which are not used.
    options = {"kernel": kernel, "random_state": None, **options}
    return HeadKind("sklearn.svm.SVC", grid, searched, options)


# coef0 = 0 would make an even polynomial blind to the sign of its input.
KERNEL_SVMS = {
    "linear": _kernel_svm("linear", {"C": [1e-5, 1e-4, 1e-3, 1e-2]}, ("C",)),
    "rbf": _kernel_svm(
        "rbf", {"C": [0.1, 1.0, 10.0, 100.0, 1000.0], "gamma": [1e-5, 1e-4, 1e-3]}, ("C", "gamma")
    ),
    "poly": _kernel_svm(
        "poly",
        {"C": [1e-2, 0.1, 1.0, 10.0], "gamma": [1e-5, 1e-4], "degree": [2, 3]},
        ("C", "gamma", "degree", "coef0"),
        coef0=1.0,
    ),
    "sigmoid": _kernel_svm(
        "sigmoid", {"C": [0.1, 1.0, 10.0], "gamma": [1e-6, 1e-5, 1e-4]}, ("C", "gamma", "coef0")
    ),
}
"""The head ``svm`` by its kernel; without one it is `SVM`."""

HEAD_KINDS = Extensions(
    "head",
    "haemo.heads",
    HeadKind,
    {name: f"haemo.models.heads.kinds:{name.upper()}" for name in ("svm", "softmax", "mlp")},
)
"""Heads by name: what is built in, and what installed distributions add."""


def foreign_kind(estimator: str) -> HeadKind:
    """The kind of any classifier, by the dotted path of its class; nothing is searched by default.

    Raises
    ------
    BadSettings
        If there is no such class, it is no classifier, it cannot be made without arguments, or it gives
        neither decision scores nor probabilities.
    """
    module, _, name = estimator.rpartition(".")
    try:
        found = importlib.import_module(module) if module else None
    except ImportError as error:
        raise BadSettings(
            f"the estimator {estimator} cannot be imported ({error}); write it as "
            "sklearn.ensemble.RandomForestClassifier, and install its package in this environment"
        ) from error
    if found is None or not isinstance(getattr(found, name, None), type):
        near = did_you_mean(name, [known for known in dir(found) if known[0].isupper()]) if found else ""
        raise BadSettings(
            f"there is no class {estimator}.{near} Write it as sklearn.ensemble.RandomForestClassifier"
        )
    from sklearn.base import is_classifier

    try:
        made = getattr(found, name)()
    except TypeError as error:
        raise BadSettings(f"{estimator} cannot be made without arguments ({error})") from error
    scores = hasattr(made, "decision_function") or hasattr(made, "predict_proba")
    if not (is_classifier(made) and hasattr(made, "fit") and scores):
        raise BadSettings(
            f"{estimator} is no classifier of scikit-learn's kind with decision_function or predict_proba"
        )
    return HeadKind(estimator)
