"""How often the program says in words what is not so: errors of the first kind of its claims.

    python benchmarks/claims.py                    250 cohorts a row
    python benchmarks/claims.py --cohorts 1000 --patients 50

Each claim is asked for where nothing is to be claimed, through the code that makes the sentence: models
that are equal by construction (`compare`), scores that know nothing (the report), facts that say nothing
of the label (`leakage`), subgroups by chance. A cohort counts once, however many of its sentences claim
something.
"""

from pathlib import Path

import click
import numpy as np
from coverage import LAWS, SIZES, Law
from threadpoolctl import threadpool_limits

from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.comparison import compare_predictions
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS
from haemo.pipeline.evaluation.permuted_labels import p_values
from haemo.pipeline.evaluation.shortcuts import ALPHA
from haemo.pipeline.evaluation.subgroups import by_subgroup

_WORDS = ("ranks slices better", "is right more often")


def _drawn(
    law: Law, patients: int, seed: list[int]
) -> tuple[np.random.Generator, np.ndarray, np.ndarray] | None:
    """A cohort in which both classes have patients enough for an interval that is not rough."""
    rng = np.random.default_rng(seed)
    patient, bleeds = law.slices(rng, patients)
    bleeding = len(np.unique(patient[bleeds]))
    if min(bleeding, patients - bleeding) < LEAST_PATIENTS:
        return None
    return rng, patient, bleeds


def compared(law: Law, patients: int, models: int, cohorts: int) -> tuple[np.ndarray, int]:
    """Shares of cohorts in which `compare` says each of `_WORDS`, and either; of how many cohorts."""
    said = []
    for seed in range(cohorts):
        drawn = _drawn(law, patients, [seed, patients, models, 7])
        if drawn is None:
            continue
        rng, patient, bleeds = drawn
        answers = {
            f"model {number}": law.predictions(patient, bleeds, law.scores(rng, patient, bleeds))
            for number in range(models)
        }
        text = " ".join(pair["sentence"] for pair in compare_predictions(answers).pairs)
        own = [words in text for words in _WORDS]
        said.append([*own, any(own)])
    return (np.mean(said, axis=0) if said else np.full(3, np.nan)), len(said)


def told(patients: int, alike: float, cohorts: int) -> tuple[float, int]:
    """Share of cohorts in which the report says that scores which know nothing tell a bleed."""
    law = Law(0.44, alike, 0.5)
    found = []
    for seed in range(cohorts):
        drawn = _drawn(law, patients, [seed, patients, 8])
        if drawn is None:
            continue
        rng, patient, bleeds = drawn
        scores = law.scores(rng, patient, bleeds)
        p = Law(0.44, alike, 0.8).predictions(patient, bleeds, scores)
        found.append(assess(p)["intervals"]["roc_auc"]["low"] > 0.5)
    return float(np.mean(found)), len(found)


def subgroups(patients: int, cohorts: int) -> tuple[float, int]:
    """Share of cohorts in which a subgroup is said to differ: two of sex, three of scanner, by chance."""
    law, found = LAWS[0], []
    for seed in range(cohorts):
        drawn = _drawn(law, patients, [seed, patients, 11])
        if drawn is None:
            continue
        rng, patient, bleeds = drawn
        columns = {
            name: np.array(kinds)[rng.integers(0, len(kinds), patients)][patient]
            for name, kinds in (("sex", ("F", "M")), ("scanner", ("a", "b", "c")))
        }
        answers = {"model": law.predictions(patient, bleeds, law.scores(rng, patient, bleeds))}
        (own,) = by_subgroup(answers, columns)["models"].values()
        tested = (entry for group in own["groups"] for entry in group.get("differences", {}).values())
        found.append(any(entry.get("p_holm", 1.0) < ALPHA for entry in tested))
    return float(np.mean(found)), len(found)


def shortcut(patients: int, slices: int, cohorts: int) -> float:
    """Share of cohorts in which `leakage` finds a shortcut among four groups of facts that say nothing."""
    found = []
    for seed in range(cohorts):
        rng = np.random.default_rng([seed, patients, 9])
        patient = np.repeat(np.arange(patients), slices)
        bleeds = (rng.permutation(patients) < patients * 0.44)[patient] & (rng.random(len(patient)) < 0.6)
        rows = [
            ManifestRow(str(number), Path(f"{number}.png"), "yn"[not own], f"p{who}", f"p{who}")
            for number, (own, who) in enumerate(zip(bleeds, patient, strict=True))
        ]
        facts = rng.normal(size=(patients, 14))[patient] + 0.5 * rng.normal(size=(len(patient), 14))
        parts = {"file": facts[:, :5], "gray": facts[:, 5:6], "border": facts[:, 6:], "all": facts}
        found.append(min(p_values(parts, rows, ("n", "y"), seed)) <= ALPHA)
    return float(np.mean(found))


def show_compared(sizes: tuple[int, ...], cohorts: int) -> None:
    click.echo(f"compare: a sentence claims a difference between equal models, in %; {cohorts} cohorts a row")
    click.echo(f"{'law':34}{'models':>8}{'patients':>10}{'ranks':>8}{'right':>8}{'either':>8}")
    for law in (LAWS[0], LAWS[4]):
        for models in (2, 3, 5):
            for patients in sizes:
                shares, counted = compared(law, patients, models, cohorts)
                if counted < cohorts / 4:
                    continue
                cells = "".join(f"{100 * share:8.1f}" for share in shares)
                words = f"{law.share:.0%} bleed, alike {law.alike}, AUC {law.area}"
                click.echo(f"{words:34}{models:8}{patients:10}{cells}  of {counted}")


def show_told(sizes: tuple[int, ...], cohorts: int) -> None:
    click.echo("\nreport: scores that know nothing are said to tell a bleed (claimed in 2.5), in %")
    click.echo(f"{'alike':>8}{'patients':>10}{'said':>8}")
    for alike in (0.1, 0.5, 0.9):
        for patients in sizes:
            share, counted = told(patients, alike, cohorts)
            click.echo(f"{alike:8}{patients:10}{100 * share:8.1f}  of {counted}")


def show_shortcuts(cohorts: int) -> None:
    click.echo("\nleakage: a shortcut is found in facts that say nothing (claimed in 5), in %")
    click.echo(f"{'patients':>8}{'slices':>8}{'found':>8}")
    for patients, slices in ((30, 2), (60, 3), (100, 2)):
        click.echo(f"{patients:8}{slices:8}{100 * shortcut(patients, slices, cohorts):8.1f}  of {cohorts}")


def show_subgroups(sizes: tuple[int, ...], cohorts: int) -> None:
    click.echo("\nsubgroups dealt by chance: one is said to differ (claimed in 5 at most), in %")
    click.echo(f"{'patients':>8}{'said':>8}")
    for patients in sizes:
        share, counted = subgroups(patients, cohorts)
        click.echo(f"{patients:8}{100 * share:8.1f}  of {counted}")


@click.command()
@click.option("--cohorts", default=250, show_default=True, help="Cohorts a row.")
@click.option("--patients", "sizes", multiple=True, type=int, default=SIZES, show_default=True)
def main(cohorts: int, sizes: tuple[int, ...]) -> None:
    with threadpool_limits(1):
        show_compared(sizes, cohorts)
        show_told(sizes, cohorts)
        show_subgroups(sizes, cohorts)
        show_shortcuts(cohorts)


if __name__ == "__main__":
    main()
