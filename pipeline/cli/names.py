"""``haemo names``: who or what is behind a code that a run shares."""

from pathlib import Path

import click

from haemo.pipeline.cli.console import run_option, table

__all__ = ["names"]


@click.command()
@run_option
@click.argument("codes", nargs=-1, required=True, metavar="CODE...")
def names(run_path: Path, codes: tuple[str, ...]) -> int:
    """Say which patient, study, slice or file of RUN is behind a code such as patient-3fa2c1d09b.

    Reports, leakage.json and the like call slices and patients by codes. They are made from RUN/manifest.csv,
    and hold until haemo index gives it other slices, labels or patients. Exit code 1 if one is unknown.
    """
    from haemo.pipeline.run.directory import RunDirectory

    run = RunDirectory(run_path)
    manifest, known = run.manifest(), run.codes().names
    path_of = {row.slice_id: str(row.path) for row in manifest}
    rows = []
    for code in codes:
        own, _, angle = code.partition("@")  # of a rotated copy
        if own in known:
            kind, name = known[own]
            rows.append(
                [code, kind, f"{name}@{angle}" if angle else name, path_of[name] if kind == "slice" else ""]
            )
        else:
            click.echo(
                f"{code} is of no slice, study or patient that {run} has now; is it of another run?", err=True
            )
    if rows:
        table(("code", "what", "name", "file"), rows)
    return 1 if len(rows) < len(codes) else 0
