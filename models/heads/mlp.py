"""A multi-layer perceptron that stops early on patients it does not train on."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["EarlyStoppingMLP"]


class EarlyStoppingMLP(ClassifierMixin, BaseEstimator):
    """One hidden layer of ReLU units, trained by Adam in float32.

    scikit-learn's own early stopping holds rows out at random, so slices of one patient stand on both
    sides and it stops too late. Here whole groups are held out. The weights of the epoch with the lowest
    loss on them are kept.

    A step of Adam moves every weight by about the learning rate, whatever the gradient, so thousands of
    standardised inputs together would throw a hidden unit far in a single step. While it trains, inputs
    are divided by the root of their number, which makes a step independent of it; the weights that are
    kept are those for the inputs as they come.

    Where a class has a single group nobody can be held out; training then stops when the training loss
    itself no longer falls.

    Parameters
    ----------
    hidden : int
        Units of the hidden layer.
    alpha : float
        Strength of the L2 penalty on the weights, as they are while it trains.
    learning_rate : float
    batch_size : int
    max_epochs : int
    patience : int
        Epochs without a lower loss after which training stops.
    validation_fraction : float
        Share of the groups that is held out.
    class_weight : str or None
        ``balanced`` weighs rows inversely to the frequency of their class, in training and in the loss
        that stops it.
    random_state : int

    Attributes
    ----------
    coefs_ : list of ndarray
        Weights of shape (n_features, hidden) and (hidden, n_outputs), float32; one output for two classes.
    intercepts_ : list of ndarray
    classes_ : ndarray of shape (n_classes,)
    n_epochs_ : int
        Epochs that were trained.
    best_loss_ : float
        Log loss of the epoch whose weights were kept.
    """

    def __init__(
        self,
        hidden=32,
        alpha=1e-3,
        learning_rate=3e-3,
        batch_size=64,
        max_epochs=100,
        patience=10,
        validation_fraction=0.2,
        class_weight=None,
        random_state=0,
    ):
        self.hidden = hidden
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X, y, groups=None) -> "EarlyStoppingMLP":
        """Train.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        y : ndarray of shape (n,)
        groups : ndarray of shape (n,), optional
            Patient of each row; None takes every row for a patient of its own.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"there is only one class in y: {self.classes_}")
        groups = np.arange(len(y)) if groups is None else np.asarray(groups)
        weights = compute_sample_weight(self.class_weight, numbers).astype(np.float32)
        random = np.random.default_rng(self.random_state)
        held_out = _held_out(numbers, groups, self.validation_fraction, random)
        validation = held_out if held_out.any() else ~held_out
        network = MLPClassifier(
            hidden_layer_sizes=(self.hidden,),
            alpha=self.alpha,
            learning_rate_init=self.learning_rate,
            batch_size=min(self.batch_size, int((~held_out).sum())),
            random_state=self.random_state,
        )
        scale = np.float32(1 / np.sqrt(X.shape[1]))
        shrunk = X * scale
        training = (shrunk[~held_out], numbers[~held_out])
        self.best_loss_, best_epoch = np.inf, 0
        for epoch in range(1, self.max_epochs + 1):
            self.n_epochs_ = epoch
            network.partial_fit(
                *training, classes=np.arange(len(self.classes_)), sample_weight=weights[~held_out]
            )
            logits = _logits(shrunk[validation], network.coefs_, network.intercepts_)
            loss = _log_loss(logits, numbers[validation], weights[validation])
            if loss < self.best_loss_:
                self.best_loss_, best_epoch = loss, epoch
                self.coefs_ = [weight.copy() for weight in network.coefs_]
                self.intercepts_ = [bias.copy() for bias in network.intercepts_]
            elif epoch - best_epoch >= self.patience:
                break
        self.coefs_[0] *= scale
        return self

    def decision_function(self, X) -> np.ndarray:
        """Log odds of the second class, shape (n,); with more classes one logit each, (n, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        logits = _logits(X.astype(np.float64), self.coefs_, self.intercepts_)
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X) -> np.ndarray:
        """The class with the highest logit, shape (n,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]


def _logits(X: np.ndarray, coefs: list[np.ndarray], intercepts: list[np.ndarray]) -> np.ndarray:
    return np.maximum(X @ coefs[0] + intercepts[0], 0) @ coefs[1] + intercepts[1]


def _log_loss(logits: np.ndarray, numbers: np.ndarray, weights: np.ndarray) -> float:
    if logits.shape[1] == 1:
        signed = np.where(numbers == 1, logits[:, 0], -logits[:, 0])
        losses = np.logaddexp(0, -signed)
    else:
        own = logits[np.arange(len(numbers)), numbers]
        losses = np.logaddexp.reduce(logits, axis=1) - own
    return float(np.average(losses, weights=weights))


def _held_out(
    numbers: np.ndarray, groups: np.ndarray, share: float, random: np.random.Generator
) -> np.ndarray:
    """Which rows validate: about `share` of the groups of each class, whole, and every class on both sides.

    A group counts for the rarest of its classes. Nobody is held out where that leaves a class on one side.
    """
    names, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), numbers.max() + 1), dtype=int)
    np.add.at(counts, (group, numbers), 1)
    rarity = np.argsort(np.argsort((counts > 0).sum(axis=0), kind="stable"))
    stratum = np.where(counts > 0, rarity, counts.shape[1]).min(axis=1)
    chosen = np.zeros(len(names), dtype=bool)
    for one in np.unique(stratum):
        members = random.permutation(np.flatnonzero(stratum == one))
        chosen[members[: max(1, round(share * len(members)))]] = len(members) > 1
    both = (counts[chosen].sum(axis=0) > 0) & (counts[~chosen].sum(axis=0) > 0)
    return chosen[group] if both.all() else np.zeros(len(numbers), dtype=bool)
