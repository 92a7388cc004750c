"""What a model would be worth in use: calibration, net benefit, fixed points, predictive values elsewhere."""

from typing import Any

from haemo.pipeline.evaluation.calibration_line import calibration_line
from haemo.pipeline.evaluation.decision_curve import decision_curve
from haemo.pipeline.evaluation.fixed_points import PREVALENCES, at_fixed, at_prevalences
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.run.predictions import Predictions

__all__ = ["clinical_figures"]


def clinical_figures(
    answers: Predictions,
    prevalence: float | None = None,
    threshold: float | None = None,
    resampling: Resampling | None = None,
) -> dict[str, Any]:
    """Everything of this kind about one model of two classes, with intervals by patient.

    Parameters
    ----------
    answers : Predictions
        Of two classes: slices or units.
    prevalence : float in 0..1, exclusive, optional
        Stated in place of `fixed_points.PREVALENCES`.
    threshold : float, optional
        At which PPV and NPV are, in place of what the model decided.
    resampling : Resampling, optional

    Returns
    -------
    dict
        ``calibration`` (`calibration_line`), ``decision_curve`` (`decision_curve`), ``at_fixed``
        (`at_fixed`) and ``at_prevalences`` (`at_prevalences`).
    """
    stated = PREVALENCES if prevalence is None else (prevalence,)
    return {
        "calibration": calibration_line(answers, resampling),
        "decision_curve": decision_curve(answers, resampling),
        "at_fixed": at_fixed(answers, resampling),
        "at_prevalences": at_prevalences(answers, stated, threshold, resampling),
    }
