"""Readers beside models, on the test slices that these readers have read."""

from collections.abc import Sequence

from haemo.pipeline.evaluation.comparison import Comparison, align, answers_of, compare_predictions
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.readings import Reading
from haemo.pipeline.splitting.splitfile import load_split
from haemo.progress import Progress, silent

__all__ = ["compare_readers"]


def compare_readers(
    run: RunDirectory,
    readers: Sequence[str],
    *,
    threshold: float | None = None,
    prevalence: float | None = None,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare readers and every trained model, and keep the result as compare_readers.json.

    Only test slices that all of the readers have read count, for the models too.

    Parameters
    ----------
    run : RunDirectory
    readers : sequence of str
        Who have read, as `haemo serve` keeps it.
    threshold, prevalence, resampling, progress
        As for `pipeline.evaluation.comparison.compare`. A reader calls what is rather a bleed a bleed.

    Raises
    ------
    MissingStep
        If a reader has answered nothing, or no model of the run has been trained.
    BadDataset
        As `compare`.
    """
    manifest = run.manifest()
    split = load_split(run, manifest) if run.split_path.exists() else None
    said = {f"reader {name}": Reading.open(run, name).predictions(manifest.labelled.rows) for name in readers}
    answers, _, strangers = answers_of(run, "test", split)
    aligned, notes = align({**answers, **said})
    leaky = split is not None and split.leaky
    if leaky:
        notes.append("LEAKY: patients stand on both sides of the split; figures of models are too good")
    comparison = compare_predictions(
        aligned,
        leaky=leaky,
        notes=[*notes, *strangers],
        threshold=threshold,
        prevalence=prevalence,
        resampling=resampling,
        progress=progress,
    )
    comparison.write(run.path / "compare_readers.json")
    return comparison
