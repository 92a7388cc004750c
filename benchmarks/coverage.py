"""How often intervals hold the truth, and how often a difference is found where there is none.

    python benchmarks/coverage.py                      the whole table, 250 cohorts a cell
    python benchmarks/coverage.py --cohorts 1000 --patients 20 --patients 50
    python benchmarks/coverage.py --candidates         other ways to an interval beside these two

Cohorts are drawn from a law with a known truth: a share of patients bleeds, all or part of their slices do,
and scores are normal, part of their variance (`alike`, the intraclass correlation) being the patient's. Of
each cohort `assess` gives intervals (ours); percentiles of bootstrap samples of the same patients stand
beside them. Cohorts in which a class has too few patients, whose intervals are marked as rough, are counted
apart.
"""

from dataclasses import dataclass

import click
import numpy as np
from scipy.special import expit, logit, ndtr, ndtri, stdtrit
from threadpoolctl import threadpool_limits

from haemo.pipeline.evaluation.drawn_figures import figures_of_draws
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS, Estimate, difference
from haemo.pipeline.evaluation.paired import delong, patient_sign_test
from haemo.pipeline.evaluation.refits import answers, fit_splits
from haemo.pipeline.evaluation.tallies import Tally
from haemo.pipeline.run.predictions import Predictions

FIGURES = ("roc_auc", "sensitivity", "specificity", "ppv", "npv", "accuracy", "brier")
SIZES = (20, 25, 50, 100, 200)


@dataclass(frozen=True)
class Law:
    """What cohorts are drawn from.

    Attributes
    ----------
    share : float
        Of patients that bleed.
    alike : float
        Share of the variance of scores that all slices of a patient have in common.
    area : float
        True ROC AUC.
    bleeding : float
        Share of the slices of a bleeding patient that show it.
    even : bool
        Whether all patients have 30 slices; else 1 and more, 30 on average.
    """

    share: float
    alike: float
    area: float
    bleeding: float = 1.0
    even: bool = True

    @property
    def shift(self) -> float:
        return float(np.sqrt(2) * ndtri(self.area))

    def chance(self, scores: np.ndarray) -> np.ndarray:
        """Probability of a bleed, calibrated over all slices."""
        return expit(self.shift * scores - self.shift**2 / 2 + logit(self.share * self.bleeding))

    def truth(self) -> dict[str, float]:
        """The figures of all patients that there could be."""
        prior = self.share * self.bleeding
        end = (self.shift**2 / 2 - logit(prior)) / self.shift
        found, cleared = float(ndtr(self.shift - end)), float(ndtr(end))
        grid = np.linspace(-9, 9, 20001)
        density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
        missed = np.sum(density * (1 - self.chance(grid + self.shift)) ** 2)
        alarms = np.sum(density * self.chance(grid) ** 2)
        return {
            "roc_auc": self.area,
            "sensitivity": found,
            "specificity": cleared,
            "ppv": found * prior / (found * prior + (1 - cleared) * (1 - prior)),
            "npv": cleared * (1 - prior) / (cleared * (1 - prior) + (1 - found) * prior),
            "accuracy": found * prior + cleared * (1 - prior),
            "brier": float(prior * missed + (1 - prior) * alarms),
        }

    def slices(self, rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
        """Patient and truth of the slices of one cohort."""
        count = np.full(patients, 30) if self.even else 1 + rng.poisson(rng.gamma(1.5, 29 / 1.5, patients))
        patient = np.repeat(np.arange(patients), count)
        bleeds = rng.random(patients) < self.share
        return patient, bleeds[patient] & (rng.random(len(patient)) < self.bleeding)

    def scores(
        self, rng: np.random.Generator, patient: np.ndarray, truth: np.ndarray, alike: float | None = None
    ) -> np.ndarray:
        alike = self.alike if alike is None else alike
        common = np.sqrt(alike) * rng.normal(size=patient.max() + 1)[patient]
        return self.shift * truth + common + np.sqrt(1 - alike) * rng.normal(size=len(patient))

    def predictions(self, patient: np.ndarray, truth: np.ndarray, scores: np.ndarray) -> Predictions:
        chances, names = self.chance(scores), np.array(("normal", "bleed"))
        everyone = np.char.add("p", patient.astype(str))
        return Predictions(
            slice_id=np.arange(len(patient)).astype(str),
            patient=everyone,
            study=everyone,
            label=names[truth.astype(int)],
            part=np.full(len(patient), "test"),
            fold=np.full(len(patient), -1),
            scores=scores,
            probabilities=chances,
            predicted=names[(chances >= 0.5).astype(int)],
            classes=("normal", "bleed"),
        )


LAWS = (
    Law(0.44, 0.5, 0.8),
    Law(0.5, 0.1, 0.9),
    Law(0.44, 0.9, 0.8),
    Law(0.5, 0.5, 0.95),
    Law(0.44, 0.5, 0.9, bleeding=0.4, even=False),
    Law(0.2, 0.3, 0.85, bleeding=0.4, even=False),
)


def candidates(p: Predictions, samples: int, seed: int, level: float) -> dict[str, dict[str, np.ndarray]]:
    """Intervals by other ways: way -> figure -> ends."""
    tally = Tally(p)
    drawn = tally.figures(np.concatenate(list(Resampling(samples, seed).weights(len(tally.patients)))))
    whole, without = tally.figures(), tally.figures(1 - np.eye(len(tally.patients)))
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    found: dict[str, dict[str, np.ndarray]] = {"percentile": {}, "BCa": {}, "plain t": {}, "logit, z": {}}
    for name in FIGURES:
        values, figure, left = drawn[name][~np.isnan(drawn[name])], whole[name][0], without[name]
        if np.isnan(figure) or np.isnan(left).any() or np.ptp(values) < 1e-12:
            continue
        found["percentile"][name] = np.quantile(values, ends)
        moves = left.mean() - left
        bias = ndtri(np.clip(np.mean(values < figure) + np.mean(values == figure) / 2, 1e-3, 1 - 1e-3))
        bend = np.sum(moves**3) / (6 * np.sum(moves**2) ** 1.5)
        turned = bias + ndtri(ends)
        found["BCa"][name] = np.quantile(values, ndtr(bias + turned / (1 - bend * turned)))
        error = np.sqrt((len(left) - 1) / len(left) * np.sum((left - figure) ** 2))
        found["plain t"][name] = figure + np.array([-1, 1]) * stdtrit(len(left) - 1, ends[1]) * error
        if 0 < figure < 1:
            steps = ndtri(ends) * error / (figure * (1 - figure))
            found["logit, z"][name] = expit(logit(figure) + steps)
    return found


def coverage(
    law: Law, patients: int, cohorts: int, samples: int, every: bool
) -> tuple[float, dict[str, dict[str, list[bool]]]]:
    """Share of rough cohorts; way -> figure -> whether the truth is held in each of the others."""
    truth = law.truth()
    held: dict[str, dict[str, list[bool]]] = {}
    rough = 0
    for seed in range(cohorts):
        rng = np.random.default_rng([seed, patients])
        patient, bleeds = law.slices(rng, patients)
        p = law.predictions(patient, bleeds, law.scores(rng, patient, bleeds))
        own = assess(p)["intervals"]
        if not own or any(entry.get("rough") for entry in own.values()):
            rough += 1
            continue
        ways = {"ours": {name: np.array([one["low"], one["high"]]) for name, one in own.items()}}
        found = candidates(p, samples, seed, 0.95)
        ways |= found if every else {"percentile": found["percentile"]}
        for way, intervals in ways.items():
            for name in FIGURES:
                if name in intervals:
                    low, high = intervals[name]
                    held.setdefault(way, {}).setdefault(name, []).append(bool(low <= truth[name] <= high))
    return rough / cohorts, held


def show_coverage(sizes: tuple[int, ...], cohorts: int, samples: int, every: bool) -> None:
    click.echo(f"Share of 95 % intervals that hold the truth, in %; {cohorts} cohorts a row")
    heads = "".join(f"{name[:11]:>12}" for name in FIGURES)
    click.echo(f"{'law':44}{'patients':>9}{'rough':>7}  {'way':11}{heads}")
    together: dict[str, list[float]] = {}
    for law in LAWS:
        words = f"{law.share:.0%} bleed, alike {law.alike}, AUC {law.area}"
        words += "" if law.bleeding == 1 else f", {law.bleeding:.0%} of slices"
        for patients in sizes:
            rough, held = coverage(law, patients, cohorts, samples, every)
            for way, own in held.items():
                shares = [100 * np.mean(own[name]) if name in own else np.nan for name in FIGURES]
                counted = max(map(len, own.values()))
                if counted >= cohorts / 4:
                    together.setdefault(way, []).extend(shares)
                cells = "".join(f"{share:12.1f}" for share in shares)
                click.echo(f"{words:44}{patients:9}{100 * rough:6.0f}%  {way:11}{cells}")
    for way, shares in together.items():
        inside = np.mean([93 <= share <= 97 for share in shares])
        low = np.mean([share < 93 for share in shares])
        click.echo(
            f"{way}: {min(shares):.1f} to {max(shares):.1f} %, median {np.median(shares):.1f}; {inside:.0%} "
            f"of cells within 93 to 97, {low:.0%} below (where a quarter of cohorts or more are not rough)"
        )


def show_errors(sizes: tuple[int, ...], cohorts: int) -> None:
    """The two tests of `compare` that keep patients whole, and DeLong's, which does not."""
    click.echo(f"\nA difference is found at 5 % between models of equal truth, in %; {cohorts} cohorts a row")
    click.echo(f"{'law':44}{'patients':>9}{'ROC AUC':>10}{'accuracy':>10}{'DeLong':>10}")
    for law, other in [(law, law.alike) for law in LAWS] + [(LAWS[0], 0.1)]:
        for patients in sizes:
            found: dict[str, list[bool]] = {"ROC AUC": [], "accuracy": [], "DeLong": []}
            groups = Resampling().groups(patients)
            for seed in range(cohorts):
                rng = np.random.default_rng([seed, patients, 1])
                patient, bleeds = law.slices(rng, patients)
                pair = [
                    law.predictions(patient, bleeds, law.scores(rng, patient, bleeds, alike))
                    for alike in (law.alike, other)
                ]
                bleeding = len(np.unique(patient[bleeds]))
                if min(bleeding, len(np.unique(patient[~bleeds]))) < LEAST_PATIENTS:
                    continue
                tallies = [Tally(p) for p in pair]
                weights = np.concatenate(list(groups.weights()))
                one, two = (
                    Estimate.of(own.figures()["roc_auc"][0], own.figures(weights)["roc_auc"], groups.sizes)
                    for own in tallies
                )
                right = tallies[0].right.astype(int) - tallies[1].right
                found["ROC AUC"].append(difference(one, two, 0.95)[2] < 0.05)
                found["accuracy"].append(patient_sign_test(right, patient) < 0.05)
                found["DeLong"].append(delong(bleeds, pair[0].scores, pair[1].scores).p < 0.05)
            if found["ROC AUC"]:
                words = f"{law.share:.0%} bleed, alike {law.alike} and {other}, AUC {law.area}"
                cells = "".join(f"{100 * np.mean(own):10.1f}" for own in found.values())
                click.echo(f"{words:44}{patients:9}{cells}  of {len(found['ROC AUC'])}")


def show_heads(cohorts: int) -> None:
    """Of two heads that are equal by construction, how often one is said to be better after --cv."""
    click.echo(f"\n--cv: one of two equal heads ranks better at 5 %, in %; {cohorts} data sets a row")
    what = "patients, slices, folds x repeats, features, C"
    click.echo(f"{what:50}{'ours':>8}{'scores fixed':>14}{'holds':>8}")
    for patients, slices, folds, repeats, features, c in (
        (36, 2, 3, 1, 30, 1e-2),
        (30, 2, 5, 3, 40, 1e-3),
        (40, 3, 5, 3, 40, 1e-1),
        (80, 2, 5, 3, 40, 1e-3),
        (60, 3, 10, 3, 100, 1e-2),
        (60, 3, 2, 5, 40, 1e-2),
    ):
        rng = np.random.default_rng(0)
        patient = np.repeat(np.arange(patients), slices)
        truth, names = patient % 2, np.array([f"p{number:03d}" for number in range(patients)])
        ours, fixed, estimates = [], [], []
        for _ in range(cohorts):
            order = np.stack([rng.permutation(patients // 2) % folds for _ in range(2 * repeats)])
            fold = np.stack([order[::2], order[1::2]], axis=2).reshape(repeats, -1)[:, patient]
            training = np.stack([own != k for own in fold for k in range(folds)], axis=1)
            pair = []
            for _ in range(2):
                x = 0.6 * rng.normal(size=(len(patient), features))
                x += rng.normal(size=(patients, features))[patient]
                x[:, :8] += 0.8 * (truth[:, None] - 0.5)
                scores = fit_splits(x, truth, training, c)
                found = [
                    answers(
                        patient.astype(str),
                        names[patient],
                        truth,
                        scores[np.arange(len(patient)), repeat * folds + own],
                        ("normal", "bleed"),
                    )
                    for repeat, own in enumerate(fold)
                ]
                pair.append(figures_of_draws(found, names, Resampling(), ("roc_auc",))["roc_auc"].estimate)
            ours.append(difference(*pair, 0.95)[2] < 0.05)
            tested = [Estimate(own.figure, own.moves[:1]) for own in pair]
            fixed.append(difference(*tested, 0.95)[2] < 0.05)
            estimates += pair
        middle = np.mean([own.figure for own in estimates])
        ends = np.array([own.interval(0.95) for own in estimates])
        holds = 100 * np.mean((ends[:, 0] <= middle) & (middle <= ends[:, 1]))
        words = f"{patients}, {slices}, {folds}x{repeats}, {features}, {c:g}"
        click.echo(f"{words:50}{100 * np.mean(ours):8.1f}{100 * np.mean(fixed):14.1f}{holds:8.1f}")


@click.command()
@click.option("--cohorts", default=250, show_default=True, help="Cohorts a cell.")
@click.option("--samples", default=300, show_default=True, help="Bootstrap samples of percentiles and BCa.")
@click.option("--patients", "sizes", multiple=True, type=int, default=SIZES, show_default=True)
@click.option("--candidates", "every", is_flag=True, help="Also BCa, plain t, and z on the logit.")
def main(cohorts: int, samples: int, sizes: tuple[int, ...], every: bool) -> None:
    with threadpool_limits(1):
        show_coverage(sizes, cohorts, samples, every)
        show_errors(sizes, cohorts)
        show_heads(cohorts)


if __name__ == "__main__":
    main()
