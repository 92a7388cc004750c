"""A synthetic head-CT cohort with real anatomy and exact ground truth, made from a seed."""

from features.phantom.cohort import (
    Cohort,
    CohortSettings,
    LabelRow,
    PhantomPatient,
    generate_patient,
    write_cohort,
)

__all__ = ["Cohort", "CohortSettings", "LabelRow", "PhantomPatient", "generate_patient", "write_cohort"]
