"""What an extraction has come to, in words and as run.json has it."""

import logging
from typing import Any

from haemo.features.extraction.extract import ExtractionReport
from haemo.pipeline.run.directory import RunDirectory

__all__ = ["counted", "nothing_usable", "say"]

_LOG = logging.getLogger("haemo")


def say(run: RunDirectory, report: ExtractionReport) -> None:
    """Say what was remarkable about the slices."""
    if report.failures and report.cached + report.computed and (remedy := run.remedy(report.failures)):
        _LOG.warning("%s", remedy)
    if report.colour:
        were = "was a colour picture and was" if report.colour == 1 else "were colour pictures and were"
        _LOG.info("%d of the slices %s converted to gray", report.colour, were)
    if report.askew:
        stay = "it stays as it is" if report.askew == 1 else "they stay as they are"
        _LOG.info("no clear midline was found on %d of the slices; %s", report.askew, stay)
    if report.shared:
        has = (
            "has the pixels of another one and shares its"
            if report.shared == 1
            else "have the pixels of others and share their"
        )
        _LOG.info("%d of the slices %s embedding", report.shared, has)


def counted(report: ExtractionReport) -> dict[str, Any]:
    """What run.json says of the embeddings."""
    return {
        "slices": {
            "cached": report.cached,
            "shared": report.shared,
            "computed": report.computed,
            "colour": report.colour,
            **({"askew": report.askew} if report.askew else {}),
            "failed": len(report.failures),
        },
        "embeddings": report.rows,
        "fingerprint": report.fingerprint.facts,
        "fingerprint_sha256": report.fingerprint.hash,
    }


def nothing_usable(run: RunDirectory, report: ExtractionReport) -> str:
    """Why there are no features at all, and what to do about it."""
    if not report.failures:
        return f"{run.manifest_path} lists no slices; index a folder that has some"
    first, remedy = report.failures[0], run.remedy(report.failures)
    return (
        f"none of the {len(report.failures)} slices could be used (see {run.failures_path}); "
        f"{first.path}: {first.reason}" + (f"\n{remedy}" if remedy else "")
    )
