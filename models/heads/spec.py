"""The classical heads, each a scaler and a classifier on embeddings, and their default grids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = ["CLASS_WEIGHTS", "HEADS", "KERNELS", "Grid", "HeadSpec", "parse_grid"]

HEADS = ("svm", "softmax", "mlp")
KERNELS = ("linear", "rbf", "poly", "sigmoid")
CLASS_WEIGHTS = ("balanced", "none")

Grid = dict[str, list[float | int]]

# LinearSVC penalises its intercept as if it were one more weight of a constant feature of this size. At 1 the
# intercept of standardised 4096-d features is held near 0, which cost 3 points of AUC; from 10 on it is free.
_INTERCEPT_SCALING = 10.0
_LINEAR_ITERATIONS = 20_000
_SOFTMAX_ITERATIONS = 2_000

# Standardised embeddings have thousands of features, so a unit of C weighs much. On training patients of 200
# public slices and of four phantom cohorts of 60 to 100 patients (pool5) the best C of the linear SVM lay
# between 1e-4 and 0.1, that of softmax regression at 0.01 or 0.1; from 1e-2 on AUC moved by less than 0.01.
# The RBF kernel mostly wanted a width of 1e-5, a tenth of 1 / n_features, with C of 10 to 1000; there it is
# nearly a linear SVM, and 1e-6 won nothing.
_GRIDS: dict[tuple[str, str | None], Grid] = {
    ("svm", None): {"C": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1]},
    ("svm", "linear"): {"C": [1e-5, 1e-4, 1e-3, 1e-2]},
    ("svm", "rbf"): {"C": [0.1, 1.0, 10.0, 100.0, 1000.0], "gamma": [1e-5, 1e-4, 1e-3]},
    ("svm", "poly"): {"C": [1e-2, 0.1, 1.0, 10.0], "gamma": [1e-5, 1e-4], "degree": [2, 3]},
    ("svm", "sigmoid"): {"C": [0.1, 1.0, 10.0], "gamma": [1e-6, 1e-5, 1e-4]},
    ("softmax", None): {"C": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1]},
    ("mlp", None): {"hidden": [32], "alpha": [1e-3, 1.0, 10.0]},
}

_WHOLE = {"degree", "hidden", "batch_size", "max_epochs", "patience"}
_MLP_PARAMETERS = ("hidden", "alpha", "learning_rate", "batch_size", "max_epochs", "patience")


@dataclass(frozen=True)
class HeadSpec:
    """Which head: everything about it but the parameters that are searched.

    Attributes
    ----------
    name : str
        ``svm``, ``softmax`` or ``mlp``.
    kernel : str or None
        For ``svm``: None is the linear SVM with squared hinge loss (LinearSVC); ``linear``, ``rbf``,
        ``poly`` and ``sigmoid`` are kernel machines with hinge loss (SVC).
    class_weight : str
        ``balanced`` weighs slices inversely to the frequency of their class; ``none`` does not.
    seed : int
    normalise : bool
        Scale each embedding to length 1, before features are standardised.
    pca : int or None
        Keep this many principal components of the standardised features.
    nystroem : int or None
        For a kernel other than ``linear``: approximate it by this many features (Nystroem) and fit the
        linear SVM on them, for more slices than a kernel matrix holds.

    Raises
    ------
    BadSettings
        If a name is not known, or an option is given for a head that has no use for it.
    """

    name: str
    kernel: str | None = None
    class_weight: str = "balanced"
    seed: int = 0
    normalise: bool = False
    pca: int | None = None
    nystroem: int | None = None

    def __post_init__(self):
        for what, value, known in (
            ("head", self.name, HEADS),
            ("class weight", self.class_weight, CLASS_WEIGHTS),
            ("kernel", self.kernel, (None, *KERNELS)),
        ):
            if value not in known:
                raise BadSettings(
                    f"{what} {value!r} is not one of {', '.join(name for name in known if name)}"
                )
        if self.kernel and self.name != "svm":
            raise BadSettings(f"a kernel is for the head svm, not for {self.name}")
        if self.nystroem and self.kernel in (None, "linear"):
            raise BadSettings(
                "Nystroem approximates a kernel: give one of --kernel rbf, poly, sigmoid with it"
            )
        for what, count in (("pca", self.pca), ("nystroem", self.nystroem)):
            if count is not None and count < 1:
                raise BadSettings(f"{what} is {count}; it must be 1 or more")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that a grid may search."""
        if self.name == "mlp":
            return _MLP_PARAMETERS
        match self.kernel:
            case "rbf":
                return ("C", "gamma")
            case "poly":
                return ("C", "gamma", "degree", "coef0")
            case "sigmoid":
                return ("C", "gamma", "coef0")
            case _:
                return ("C",)

    @property
    def default_grid(self) -> Grid:
        """The values that are searched unless others are given."""
        return {name: list(values) for name, values in _GRIDS[self.name, self.kernel].items()}

    @property
    def reads_blocks(self) -> bool:
        """Whether it can be trained on features that are read in blocks, larger than memory."""
        return self.name != "mlp" and self.kernel is None and self.pca is None

    @property
    def gives_log_odds(self) -> bool:
        """Whether the decision scores are log odds, so that probabilities may go without calibration."""
        return self.name in ("softmax", "mlp")

    def path_of(self, parameter: str) -> str:
        """What the pipeline of `build` calls a parameter, e.g. ``head__C``."""
        return f"kernel__{parameter}" if self.nystroem and parameter != "C" else f"head__{parameter}"

    def build(self, **parameters: float | int) -> "Pipeline":
        """An unfitted pipeline of FlooredScaler (step ``scale``) and classifier (step ``head``).

        The options put a step each around the scaler: ``normalise`` before it, ``pca`` and ``kernel`` after.

        Parameters
        ----------
        **parameters
            Values for some of `parameters`.
        """
        from sklearn.pipeline import Pipeline

        from haemo.models.heads.scaling import FlooredScaler

        steps = [*self._before(), ("scale", FlooredScaler()), *self._after(), ("head", self._classifier())]
        return Pipeline(steps).set_params(**{self.path_of(name): value for name, value in parameters.items()})

    def _before(self) -> list[tuple[str, Any]]:
        from sklearn.preprocessing import Normalizer

        return [("normalise", Normalizer())] if self.normalise else []

    def _after(self) -> list[tuple[str, Any]]:
        steps = []
        if self.pca:
            from sklearn.decomposition import PCA

            steps.append(("pca", PCA(self.pca, random_state=self.seed)))
        if self.nystroem:
            from sklearn.kernel_approximation import Nystroem

            coef0 = {"coef0": 1.0} if self.kernel == "poly" else {}
            steps.append(
                ("kernel", Nystroem(self.kernel, n_components=self.nystroem, random_state=self.seed, **coef0))
            )
        return steps

    def _classifier(self) -> Any:
        class_weight = None if self.class_weight == "none" else self.class_weight
        match self.name:
            case "softmax":
                from sklearn.linear_model import LogisticRegression

                return LogisticRegression(class_weight=class_weight, max_iter=_SOFTMAX_ITERATIONS)
            case "mlp":
                from haemo.models.heads.mlp import EarlyStoppingMLP

                return EarlyStoppingMLP(class_weight=class_weight, random_state=self.seed)
            case _ if self.kernel is None or self.nystroem:
                from sklearn.svm import LinearSVC

                return LinearSVC(
                    class_weight=class_weight,
                    intercept_scaling=_INTERCEPT_SCALING,
                    max_iter=_LINEAR_ITERATIONS,
                    random_state=self.seed,
                )
            case _:
                from sklearn.svm import SVC

                # coef0 = 0 would make an even polynomial blind to the sign of its input.
                coef0 = {"coef0": 1.0} if self.kernel == "poly" else {}
                return SVC(kernel=self.kernel, class_weight=class_weight, **coef0)


def parse_grid(texts: Sequence[str], spec: HeadSpec) -> Grid:
    """Read grids as they are typed: ``C=1e-6,1e-5`` and ``gamma=1e-4``.

    Parameters
    ----------
    texts : sequence of str
    spec : HeadSpec

    Returns
    -------
    dict
        The default grid with what was typed in place of its values.

    Raises
    ------
    BadSettings
        If a name is not a parameter of the head, or a value is not a number above 0 (`coef0` may be any).
    """
    grid = spec.default_grid
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip()
        if name not in spec.parameters:
            kernel = f" with kernel {spec.kernel}" if spec.kernel else ""
            raise BadSettings(
                f"{spec.name}{kernel} has no parameter {name!r} to search; "
                f"there are {', '.join(spec.parameters)}"
            )
        grid[name] = [_number(name, value) for value in values.split(",")]
    return grid


def _number(name: str, text: str) -> float | int:
    try:
        value = int(text) if name in _WHOLE else float(text)
    except ValueError as error:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise BadSettings(f"{name}={text!r} is not {kind}; write for instance C=1e-6,1e-5") from error
    if not math.isfinite(value) or (value <= 0 and name != "coef0"):
        raise BadSettings(f"{name}={text} must be above 0")
    return value
