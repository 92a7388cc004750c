"""The classical heads, each a scaler and a classifier on embeddings, and their default grids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings
from haemo.extensions import did_you_mean
from haemo.models.heads.kinds import HEAD_KINDS, KERNEL_SVMS, Grid, HeadKind, foreign_kind

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = ["CLASS_WEIGHTS", "KERNELS", "HeadSpec", "parse_grid"]

KERNELS = tuple(KERNEL_SVMS)
CLASS_WEIGHTS = ("balanced", "none")

_WHOLE = {"degree", "hidden", "batch_size", "max_epochs", "patience"}


@dataclass(frozen=True)
class HeadSpec:
    """Which head: everything about it but the parameters that are searched.

    Attributes
    ----------
    name : str
        One of `models.heads.kinds.HEAD_KINDS`; with an `estimator` any name.
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
    estimator : str or None
        The class of any classifier, as ``sklearn.ensemble.RandomForestClassifier``.

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
    estimator: str | None = None

    def __post_init__(self):
        if self.estimator is None:
            HEAD_KINDS.get(self.name)
        for what, value, known in (
            ("class weight", self.class_weight, CLASS_WEIGHTS),
            ("kernel", self.kernel, (None, *KERNELS)),
        ):
            if value not in known:
                raise BadSettings(
                    f"{what} {value!r} is not one of {', '.join(name for name in known if name)}"
                )
        if self.kernel and (self.name != "svm" or self.estimator):
            raise BadSettings(f"a kernel is for the head svm, not for {self.name}")
        if self.nystroem and self.kernel in (None, "linear"):
            raise BadSettings(
                "Nystroem approximates a kernel: give one of --kernel rbf, poly, sigmoid with it"
            )
        for what, count in (("pca", self.pca), ("nystroem", self.nystroem)):
            if count is not None and count < 1:
                raise BadSettings(f"{what} is {count}; it must be 1 or more")

    @property
    def kind(self) -> HeadKind:
        """What is searched and fitted, but for a kernel that is approximated (`nystroem`)."""
        if self.estimator:
            return foreign_kind(self.estimator)
        return KERNEL_SVMS[self.kernel] if self.kernel else HEAD_KINDS.get(self.name)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that a grid may search."""
        return self.kind.parameters

    @property
    def default_grid(self) -> Grid:
        """The values that are searched unless others are given."""
        return {name: list(values) for name, values in self.kind.grid.items()}

    @property
    def reads_blocks(self) -> bool:
        """Whether it can be trained on features that are read in blocks, larger than memory."""
        return self.kind.reads_blocks and self.pca is None

    @property
    def gives_log_odds(self) -> bool:
        """Whether the decision scores are log odds, so that probabilities may go without calibration."""
        return self.kind.log_odds

    def calibration(self, asked: str) -> str:
        """The method of `models.heads.calibration.METHODS` that what was asked for comes to.

        Log odds that go without calibration are taken back to how often classes occur where these were
        balanced by weight.
        """
        balanced = self.class_weight == "balanced" and self.kind.takes_class_weight
        return "prior" if asked == "none" and balanced else asked

    def path_of(self, parameter: str) -> str:
        """What the pipeline of `build` calls a parameter, e.g. ``head__C``."""
        if self.nystroem:
            return f"kernel__{parameter}" if parameter != "C" else f"head__{parameter}"
        return f"head__{self.kind.prefix}{parameter}"

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
        kind = HEAD_KINDS.get(self.name) if self.nystroem else self.kind
        return kind.classifier(class_weight, self.seed)


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
        Heads whose parameters are not listed take numbers, ``none``, ``true``, ``false`` and words.
    """
    grid = spec.default_grid
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip()
        if name not in spec.parameters:
            kernel = f" with kernel {spec.kernel}" if spec.kernel else ""
            raise BadSettings(
                f"{spec.name}{kernel} has no parameter {name!r} to search; there are "
                f"{', '.join(spec.parameters)}.{did_you_mean(name, spec.parameters)}"
            )
        if spec.kind.searched is None:
            grid[name] = [_value(value.strip()) for value in values.split(",")]
        else:
            grid[name] = [_number(name, value) for value in values.split(",")]
    return grid


def _value(text: str) -> Any:
    """A number, none, true or false, or else the text itself: what estimators of others take."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(name: str, text: str) -> float | int:
    try:
        value = int(text) if name in _WHOLE else float(text)
    except ValueError as error:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise BadSettings(f"{name}={text!r} is not {kind}; write for instance C=1e-6,1e-5") from error
    if not math.isfinite(value) or (value <= 0 and name != "coef0"):
        raise BadSettings(f"{name}={text} must be above 0")
    return value
