"""The command that makes the synthetic cohort."""

import re
import shlex
from pathlib import Path
from typing import Any

import click

__all__ = ["phantom"]


class _Range(click.ParamType):
    """Two whole numbers written as 8..40; one number stands for both."""

    name = "range"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", str(value))
        if match is None:
            self.fail(f"{value!r} is not a range; write it as 8..40", param, ctx)
        return int(match[1]), int(match[2] or match[1])


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--patients", type=int, default=60, show_default=True, help="How many patients.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--format",
    type=click.Choice(["dicom", "png", "nifti", "nrrd", "metaimage", "enhanced"]),
    default="dicom",
    show_default=True,
    help="DICOM in HU, or 8-bit PNG through each scan's own window; or one volume a patient, in HU.",
)
@click.option(
    "--slices", type=_Range(), default="20..36", show_default=True, help="Fewest..most slices of a study."
)
@click.option("--prevalence", type=float, default=0.4, show_default=True, help="Share of patients who bleed.")
@click.option("--size", type=int, default=512, show_default=True, help="Rows and columns of a slice.")
@click.option(
    "--population",
    type=click.Choice(["usual", "wide", "mixed"]),
    default="usual",
    show_default=True,
    help="wide: also thin, pale and layered blood, children, heads after surgery or askew, many scanners; "
    "mixed: both.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
def phantom(out: Path, workers: int | None, **settings: Any) -> None:
    """Write a synthetic head-CT cohort to the folder OUT, with the true mask of every bleed.

    Heads and confounders differ from patient to patient, three scanners share the cohort, and none of it
    depends on the bleed. Needs the demo extra (pip install 'haemo[demo]') for the tissue maps that ship with
    nilearn.

    \b
    OUT/labels.csv         path, label, patient, study, position, subtype, seed
    OUT/P0001/001.dcm      slices, lowest first
    OUT/masks/P0001/...    one PNG a slice, 255 where there is blood
    OUT/cohort.json        every parameter that was drawn
    OUT/contact_sheet.png  some slices to look at
    """
    from haemo.features.phantom import CohortSettings, write_cohort
    from haemo.pipeline.cli.console import progress

    made = write_cohort(out, CohortSettings(**settings), workers=workers, progress=progress)
    positive = sum(row.label == "haemorrhage" for row in made.rows)
    found = ", ".join(f"{count} {name}" for name, count in made.subtypes.items()) or "none"
    click.echo(
        f"{len(made.rows)} slices of {settings['patients']} patients, {made.bleeding} of whom bleed; "
        f"{positive} slices show blood ({found})"
    )
    click.echo(f"next: haemo index {shlex.quote(str(out))} --run runs/phantom")
