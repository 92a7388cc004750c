"""The report of a run: one HTML page, its figures as files, a model card and a CLAIM table.

`evidence` is everything it is written from; `sections` and `background` are the page's sections, `page`
the HTML, `documents` the card and the `checklists`, `published` the figures it is set beside.
`answer_figures`, `study_figures` and `use_figures` are drawn with `drawing`; `use_sections` serve a judgement
too; `pictures` are those of ``haemo plot``. From outside: `write_report`, `pictures`, and for pages of others
`page`, `sections`, `use_sections`, `checklists` and figures of answers.
"""

from dataclasses import dataclass
from pathlib import Path

from haemo.atomic import write_text
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.run.directory import RunDirectory
from haemo.progress import Progress, silent

__all__ = ["Report", "write_report"]


@dataclass(frozen=True)
class Report:
    """Where the parts of a report lie.

    Attributes
    ----------
    page : Path
        report.html: needs no other file.
    card, checklist, tripod : Path
        MODEL_CARD.md, CLAIM.md and TRIPOD.md.
    figures : Path
        Folder with every figure as PNG, and as SVG where it is drawn.
    claim : str
        The claim in one sentence.
    """

    page: Path
    card: Path
    checklist: Path
    tripod: Path
    figures: Path
    claim: str


def write_report(
    run: RunDirectory,
    *,
    anonymous: bool = True,
    prevalence: float | None = None,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Report:
    """Write the report of everything that a run has by now.

    Parameters
    ----------
    run : RunDirectory
        With at least one trained model.
    anonymous : bool
        Call slices and patients by their codes (`pipeline.run.codes`), and leave out paths.
    prevalence : float, optional
        Also give PPV and NPV at this share of positives in compare.json.
    resampling : Resampling, optional
    progress : Progress

    Raises
    ------
    MissingStep
        If the run has no manifest or no trained model.
    """
    from haemo.pipeline.report import background, documents, sections, use_sections
    from haemo.pipeline.report.evidence import gather
    from haemo.pipeline.report.page import page, paragraph

    resampling = resampling or Resampling()
    evidence = gather(run, anonymous, prevalence, resampling, progress)
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    compared = evidence.comparison
    made = [
        lambda: sections.results_section(evidence, resampling),
        lambda: sections.published_section(evidence),
        lambda: sections.curves_section(evidence, folder, resampling),
        lambda: sections.operating_section(evidence, resampling),
        lambda: use_sections.use_section(compared.clinical, compared.things, folder),
        lambda: use_sections.groups_section(compared.subgroups, compared.models, folder, anonymous),
        lambda: background.leakage_section(evidence, folder),
        lambda: background.learning_section(evidence, folder),
        lambda: background.training_section(evidence, folder),
        lambda: background.explanation_section(evidence),
        lambda: background.errors_section(evidence, folder),
        lambda: background.limits_section(evidence),
        lambda: background.run_section(evidence),
    ]
    found = [make() for make in progress(made, total=len(made), label="sections of the report")]
    sentence = sections.claim(evidence)
    name = "a run" if anonymous else run.path.resolve().name
    versions = evidence.record.get("haemo", {})
    subtitle = f"Brain haemorrhage on head-CT slices. Written by haemo {versions.get('haemo', '')}."
    lead = [paragraph(sentence, "claim"), *sections.warnings_of(evidence)]
    result = Report(
        page=run.path / "report.html",
        card=run.path / "MODEL_CARD.md",
        checklist=run.path / "CLAIM.md",
        tripod=run.path / "TRIPOD.md",
        figures=folder,
        claim=sentence,
    )
    write_text(result.card, documents.model_card(evidence))
    write_text(result.checklist, documents.claim_checklist(evidence))
    write_text(result.tripod, documents.tripod_checklist(evidence))
    write_text(result.page, page(f"Report of {name}", subtitle, lead, [part for part in found if part]))
    return result
