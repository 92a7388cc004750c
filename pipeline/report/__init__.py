"""The report of a run: one HTML page, its figures as files, a model card and a CLAIM table.

`evidence` is everything it is written from; `sections` and `background` are the page's sections, `page`
the HTML, `documents` the card and the `checklists`, `published` the figures it is set beside.
`answer_figures`, `study_figures` and `use_figures` are drawn with `drawing`; `use_sections` serve a judgement
too; `pictures` are those of ``haemo plot``. From outside: `write_report`, `pictures`, and for pages of others
`page`, `sections`, `use_sections`, `checklists` and figures of answers.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from haemo.atomic import write_text
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.run.directory import RunDirectory
from haemo.progress import Progress, silent
from haemo.tables import write_csv

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
    share: bool = False,
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
    share : bool
        Write it to RUN/share, where nothing else is, with numbers for slices and patients; which number is
        which stands in RUN/share_key.csv. It is anonymous then.
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
    anonymous = anonymous or share
    evidence = gather(run, anonymous, prevalence, resampling, progress, numbered=share)
    home = run.path / "share" if share else run.path
    if share and (home / "figures").exists():
        shutil.rmtree(home / "figures")  # one of then may show what this report does not
    folder = home / "figures"
    folder.mkdir(exist_ok=True, parents=True)
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
        page=home / "report.html",
        card=home / "MODEL_CARD.md",
        checklist=home / "CLAIM.md",
        tripod=home / "TRIPOD.md",
        figures=folder,
        claim=sentence,
    )
    if share:
        names = run.codes().names
        rows = [(number, code, names[code][1]) for code, number in evidence.names.numbers.items()]
        write_csv(run.path / "share_key.csv", [("number", "code", "name"), *rows])
    write_text(result.card, documents.model_card(evidence))
    write_text(result.checklist, documents.claim_checklist(evidence))
    write_text(result.tripod, documents.tripod_checklist(evidence))
    write_text(result.page, page(f"Report of {name}", subtitle, lead, [part for part in found if part]))
    return result
