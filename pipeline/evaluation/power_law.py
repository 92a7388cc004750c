"""The curve y = 100 + b1 * x^b2 of a learning curve, and how far it may be believed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PowerLaw", "fit_power_law"]

_FARTHEST = 3.0  # times the largest measured number of patients: beyond, a prediction is not earned
_MISSES = 2.0  # points by which the curve may miss the measured score at the largest number of patients
_WIDEST = 4.0  # ratio of the ends of the interval of that prediction, likewise
_DRAWN_CURVES = 200


@dataclass(frozen=True)
class PowerLaw:
    """The curve y = 100 + b1 * x^b2 of a score in percent against x training patients.

    Attributes
    ----------
    b1, b2 : float
        Below 0 for a score that grows towards 100 %.
    b1_interval, b2_interval : tuple of float
        Percentiles over curves that other patients could have given.
    wanted : float
        Score in percent that is asked for.
    patients : float or None
        Training patients at which the curve reaches it; the smallest number measured where the curve is
        there from the first and does not rise, as with scores of 100 throughout. None if it never does.
    patients_interval : tuple of float or None
        An end is infinite (None in JSON) where the curve of that resample never gets there.
    warnings : tuple of str
        Why the prediction is not to be trusted; empty if nothing speaks against it.
    """

    b1: float
    b2: float
    b1_interval: tuple[float, float]
    b2_interval: tuple[float, float]
    wanted: float
    patients: float | None
    patients_interval: tuple[float, float] | None
    warnings: tuple[str, ...]

    @staticmethod
    def curve(b1: float, b2: float, patients: np.ndarray) -> np.ndarray:
        """The score in percent at some numbers of training patients."""
        return 100 + b1 * np.asarray(patients, dtype=float) ** b2

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""

        def ends(interval: tuple[float, float] | None) -> list[float | None] | None:
            return None if interval is None else [end if np.isfinite(end) else None for end in interval]

        return {
            "formula": "percent = 100 + b1 * patients ^ b2",
            "b1": self.b1,
            "b2": self.b2,
            "b1_interval": ends(self.b1_interval),
            "b2_interval": ends(self.b2_interval),
            "wanted": self.wanted,
            "patients": self.patients,
            "patients_interval": ends(self.patients_interval),
            "warnings": list(self.warnings),
        }


def fit_power_law(
    patients: np.ndarray,
    percent: np.ndarray,
    moves: np.ndarray,
    wanted: float,
    seed: int = 0,
    level: float = 0.95,
) -> PowerLaw:
    """Fit y = 100 + b1 * x^b2 by least squares, with intervals from curves that other patients could give.

    Parameters
    ----------
    patients : ndarray of shape (n_sizes,)
    percent : ndarray of shape (n_sizes,)
    moves : ndarray of shape (n_sizes, n_sources)
        How far each source of error moves each point, in points of percent: the covariance of the points is
        ``moves @ moves.T``.
    wanted : float
        In percent, below 100.
    seed : int
    level : float

    Notes
    -----
    This is the inverse power law of learning curves (e.g. Figueroa et al. 2012, BMC Med. Inform. Decis. Mak.
    12:8) with its upper limit held at 100 %: it takes for granted that enough patients make no errors.
    """
    x = np.asarray(patients, dtype=float)
    b1, b2 = _least_squares(x, percent)
    rng = np.random.default_rng([seed, 3])
    errors = rng.normal(size=(_DRAWN_CURVES, moves.shape[1])) @ moves.T
    drawn = [_least_squares(x, np.minimum(percent + own, 100)) for own in errors]
    ends = [(1 - level) / 2, (1 + level) / 2]
    needed = np.sort([_reach(*own, wanted, x.min()) for own in drawn])
    reached = _reach(b1, b2, wanted, x.min())
    # Ends are taken as they are, not interpolated: some may be infinite.
    low, high = (float(needed[round(end * (len(needed) - 1))]) for end in ends)
    b1_low, b1_high = np.quantile([own[0] for own in drawn], ends)
    b2_low, b2_high = np.quantile([own[1] for own in drawn], ends)
    return PowerLaw(
        b1=b1,
        b2=b2,
        b1_interval=(float(b1_low), float(b1_high)),
        b2_interval=(float(b2_low), float(b2_high)),
        wanted=wanted,
        patients=reached if np.isfinite(reached) else None,
        patients_interval=(low, high) if np.isfinite(reached) else None,
        warnings=_doubts(x, percent, (b1, b2), b2_high, reached, (low, high)),
    )


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Best b1, b2: for each b2 the best b1 is a ratio of sums, so one bounded search over b2 is enough."""
    from scipy.optimize import minimize_scalar

    if (y == 100).all():
        return 0.0, 0.0  # no errors at any size: every b2 fits

    def best_b1(b2: float) -> float:
        power = x**b2
        return float(power @ (y - 100) / (power @ power))

    def error(b2: float) -> float:
        return float(np.sum((PowerLaw.curve(best_b1(b2), b2, x) - y) ** 2))

    b2 = float(minimize_scalar(error, bounds=(-3.0, 1.0), method="bounded", options={"xatol": 1e-8}).x)
    return best_b1(b2), b2


def _reach(b1: float, b2: float, wanted: float, smallest: float) -> float:
    """Where the curve reaches the wanted percentage; infinite if it never does.

    A curve that does not rise reaches it nowhere but where it begins, at the smallest measured number.
    """
    if b2 >= 0 or b1 >= 0:
        return float(smallest) if PowerLaw.curve(b1, b2, smallest) >= wanted else float("inf")
    exponent = np.log((wanted - 100) / b1) / b2
    return float(np.exp(exponent)) if exponent < 50 else float("inf")


def _doubts(
    x: np.ndarray,
    y: np.ndarray,
    fitted: tuple[float, float],
    b2_high: float,
    reached: float,
    interval: tuple[float, float],
) -> tuple[str, ...]:
    low, high = interval
    largest, last = float(x.max()), int(x.argmax())
    missed = float(y[last] - PowerLaw.curve(*fitted, x[last]))
    doubts = []
    if abs(missed) > _MISSES:
        where = "above" if missed > 0 else "below"
        doubts.append(
            f"the last measured score lies {abs(missed):.0f} points {where} the curve: another law holds"
        )
    if b2_high >= 0 and fitted[0] < 0:
        doubts.append("the measured scores do not clearly grow with the number of patients")
    if not np.isfinite(reached):
        doubts.append("the curve does not reach the wanted score")
    elif reached > _FARTHEST * largest:
        doubts.append(
            f"it lies {reached / largest:.0f} times beyond the {largest:.0f} patients that were measured; "
            f"up to {_FARTHEST:.0f} times can be believed"
        )
    if np.isfinite(reached) and high > _WIDEST * low:
        doubts.append("its interval is wider than a factor of four")
    return tuple(doubts)
