"""A synthetic head-CT cohort with real anatomy and exact ground truth, made from a seed."""

from features.phantom.cohort import Cohort, LabelRow, write_cohort
from features.phantom.patient import PhantomPatient, generate_patient
from features.phantom.settings import CohortSettings

__all__ = ["Cohort", "CohortSettings", "LabelRow", "PhantomPatient", "generate_patient", "write_cohort"]
