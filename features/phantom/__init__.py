"""A synthetic head-CT cohort with real anatomy and exact ground truth, made from a seed.

`settings` say what a `cohort` is made from, `writing`, `volume_files` and `sheet` put it on disk. One
`patient` has one `study`: an `anatomy` warped from the `atlas`, with the skull `base`, `confounders`, and
`bleeds` that become `blood`. In the wide population `conditions` say what else a patient has: blood of other
`stages`, and `childhood`, `surgery`, `vessels`, `scalp` with the `changes` that they make of a head. A
`scanner` follows a `protocol`; `rendering` and `drawing` make its planes, on random fields of `volume`.
From outside: what this package itself names.
"""

from haemo.features.phantom.cohort import Cohort, LabelRow, write_cohort
from haemo.features.phantom.patient import PhantomPatient, generate_patient
from haemo.features.phantom.settings import CohortSettings

__all__ = ["Cohort", "CohortSettings", "LabelRow", "PhantomPatient", "generate_patient", "write_cohort"]
