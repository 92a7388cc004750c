"""The errors that haemo raises on purpose; each message says what, where, and what to do about it."""

__all__ = [
    "BadDataset",
    "BadSettings",
    "BrokenExtension",
    "BrokenInstallation",
    "ClusterFailed",
    "DamagedStore",
    "ExportDiffers",
    "FingerprintMismatch",
    "HaemoError",
    "MemoryBudgetExceeded",
    "MissingExtra",
    "MissingStep",
    "NotASlice",
    "NotSolved",
    "Outlines",
    "RunLocked",
    "TooFewData",
    "TrainingDiverged",
    "UnreadableSlice",
    "WeightsUnavailable",
]


class HaemoError(Exception):
    """Base of every error that haemo raises on purpose.

    Attributes
    ----------
    exit_code : int
        What the command line exits with: 1 the work failed, 2 the request was wrong.
    """

    exit_code = 1


class UnreadableSlice(HaemoError, ValueError):
    """One file cannot be used as a slice; the message is the reason, without the path."""


class NotASlice(UnreadableSlice):
    """A sound file that is no axial slice of a CT: a localizer, a reformat, a dose report, outlines."""


class Outlines(NotASlice):
    """A sound file of what was outlined on slices (DICOM SEG or RTSTRUCT), which is no slice itself."""


class BadDataset(HaemoError, ValueError):
    """A data folder, labels file or manifest is not what it claims to be."""


class BadSettings(HaemoError, ValueError):
    """An option has a value that is not allowed or does not fit the others."""

    exit_code = 2


class BrokenExtension(HaemoError, ImportError):
    """A plug-in cannot be used; the message names its distribution and the reason."""


class BrokenInstallation(HaemoError, RuntimeError):
    """Part of what is installed does not work here; the message says which part."""


class ClusterFailed(HaemoError, RuntimeError):
    """A scheduler does not answer, or has no worker that can do the work; the message says what is kept."""


class MissingStep(HaemoError, FileNotFoundError):
    """A step was asked for before the step it needs; the message names the command to run first."""


class MissingExtra(HaemoError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class TooFewData(HaemoError, ValueError):
    """There are too few slices, patients or classes for what was asked."""


class WeightsUnavailable(HaemoError, FileNotFoundError):
    """No weights of the kind asked for can be reached, or a weight file is not what it claims."""


class FingerprintMismatch(HaemoError, ValueError):
    """Two things that must come from one configuration do not; the message names the key that differs."""


class DamagedStore(HaemoError, OSError):
    """A feature store or shard fails its checksums or cannot be opened."""


class ExportDiffers(HaemoError, ArithmeticError):
    """A model does not say the same after it was exported; the message says how far apart they are."""


class RunLocked(HaemoError, RuntimeError):
    """Another process is working on the same run directory; the message says which."""


class MemoryBudgetExceeded(HaemoError, MemoryError):
    """What was asked for does not fit into the memory budget; the message names what would."""


class NotSolved(HaemoError, ArithmeticError):
    """An optimisation stopped before it reached its stated accuracy."""


class TrainingDiverged(HaemoError, ArithmeticError):
    """A loss or gradient is no longer finite; the message says when, and what to change."""


class NotTracked(HaemoError, OSError):
    """A model is trained and kept, but the tracking store could not be told of it."""
