"""Stage two against scikit-learn: the same grids on the same folds, by GridSearchCV and by SharedSearchCV.

    make bench-heads
    make bench-heads ARGS="--slices 500 2000"
    make bench-heads ARGS="--run runs/demo"

Without --run the embeddings are synthetic, with what makes real ones slow to fit: rectified, correlated (200
latent factors whose weight falls like a power law), with patients whose slices resemble each other, and
classes that overlap. Folds keep patients whole. Both sides search the pipeline that haemo trains, use two
cores and leave out the refit. Where the peer would take an hour it is timed on some settings, spread evenly
over the grid, on one fold, and its time is scaled; the table says how many cells of how many were timed.
Scores are compared on all cells that the peer was timed on.
"""

import argparse
import itertools
import math
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haemo.processors import usable_processors

FOLDS = 5
JOBS = 2
RBF = {"head__C": [0.1, 1.0, 10.0, 100.0, 1000.0], "head__gamma": [1e-5, 1e-4, 1e-3, 1e-2]}
LINEAR = {"head__C": [float(c) for c in np.logspace(-6, -2, 8)]}


@dataclass(frozen=True)
class Task:
    """One grid, and the part of it that the peer is timed on at each size.

    `peer_settings` gives, from a number of slices on, how many settings it gets, on one fold; 0 is all of
    them on all folds.
    """

    title: str
    head: str
    grid: dict
    peer_settings: tuple[tuple[int, int], ...]

    def sample(self, n: int, asked: int | None) -> tuple[list[int], int]:
        """Which settings of the grid the peer is timed on, and on how many folds."""
        count = math.prod(len(values) for values in self.grid.values())
        wanted = (
            [number for start, number in self.peer_settings if n >= start][-1] if asked is None else asked
        )
        if not wanted:
            return list(range(count)), FOLDS
        wanted = min(wanted, count)
        return [int((place + 0.5) * count / wanted) for place in range(wanted)], 1


TASKS = (
    Task("RBF SVM, 5 C x 4 gamma", "svc", RBF, ((0, 0), (1000, 7), (5000, 2))),
    Task("linear SVM, 8 C", "linear", LINEAR, ((0, 0), (1000, 8), (5000, 4))),
    Task("softmax, 8 C", "softmax", LINEAR, ((0, 0), (1000, 8), (5000, 3))),
)


def embeddings(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Synthetic fc7: features (n, d) float32, labels, patients of about 25 slices."""
    rng = np.random.default_rng(seed)
    n_patients, rank = max(20, n // 25), 200
    patients = np.sort(rng.integers(0, n_patients, n))
    y = np.where(rng.random(n) < 0.6, rng.integers(0, 2, n_patients)[patients], 0)
    latent = rng.normal(size=(n, rank)) + 0.8 * rng.normal(size=(n_patients, rank))[patients]
    latent[y == 1, 5:15] += 0.6
    mixing = rng.normal(size=(rank, d)) * (1.0 + np.arange(rank))[:, None] ** -0.7
    X = latent @ mixing + 0.5 * rng.normal(size=(n, d)) - 0.5 * rng.random(d)
    return (np.maximum(X, 0.0) * rng.lognormal(0.0, 0.5, d)).astype(np.float32), y, patients


def embeddings_of_run(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All labelled slices of a run that have features."""
    from haemo.features.store.store import FeatureStore
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.splitting.split import classes_of

    run = RunDirectory(path)
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    with FeatureStore(run.store_path) as store:
        ids = [row.slice_id for row in manifest.labelled]
        rows = [row for row, there in zip(manifest.labelled, store.has(ids), strict=True) if there]
        X = store.embeddings([row.slice_id for row in rows])
    return X, np.array([classes.index(row.label) for row in rows]), np.array([row.patient for row in rows])


def build(head: str):
    """The pipeline that `haemo svm` and `haemo softmax` search, without class weights."""
    from haemo.models.heads.spec import HeadSpec

    names = {"svc": ("svm", "rbf"), "linear": ("svm", None), "softmax": ("softmax", None)}
    return HeadSpec(*names[head], class_weight="none").build()


def memory_kb(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)


def ours(task: Task, data: tuple, budget: int, answer) -> None:
    """Run the search in this process, which has nothing else in it, and send what it took."""
    from haemo.models.search.grid import SharedSearchCV

    X, y, folds = data
    search = SharedSearchCV(
        build(task.head), task.grid, scoring="roc_auc", cv=folds, refit=False, n_jobs=JOBS, memory=budget
    )
    # One small search first: imports and the threads of the BLAS are not what is measured.
    SharedSearchCV(build(task.head), {"head__C": [1e-3]}, cv=2, refit=False).fit(X[:200], y[:200])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory_kb("VmRSS")
    start = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - start
    answer.send((seconds, (memory_kb("VmHWM") - before) / 1024, search.cv_results_))


def peer(task: Task, data: tuple, chosen: list[int], n_folds: int, answer) -> None:
    from joblib.externals.loky import get_reusable_executor
    from sklearn.model_selection import GridSearchCV, ParameterGrid

    X, y, folds = data
    settings = list(ParameterGrid(task.grid))
    grid = [{name: [value] for name, value in settings[place].items()} for place in chosen]
    search = GridSearchCV(
        build(task.head), grid, scoring="roc_auc", cv=folds[:n_folds], refit=False, n_jobs=JOBS
    )
    GridSearchCV(build(task.head), {"head__C": [1e-3, 1e-4]}, cv=2, n_jobs=JOBS).fit(X[:200], y[:200])
    start = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - start
    scale = len(settings) * FOLDS / (len(chosen) * n_folds)
    # Idle workers would keep this process alive for minutes.
    get_reusable_executor().shutdown(wait=True)
    answer.send((seconds, scale, search.cv_results_))


def alone(function, *arguments):
    """The answer of a function that runs in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(*arguments, sender))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def main() -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, nargs="+", default=[500, 2000, 8855])
    parser.add_argument("--dimension", type=int, default=4096)
    parser.add_argument("--memory-gib", type=float, default=4.0, help="budget given to the search")
    parser.add_argument("--tasks", nargs="+", choices=["svc", "linear", "softmax"], default=None)
    parser.add_argument(
        "--peer-settings",
        type=int,
        metavar="N",
        help="time the peer on N settings of the grid, on one fold (0: all settings and folds); by default "
        "all below 1,000 slices and fewer above",
    )
    parser.add_argument("--run", type=Path, help="time on the embeddings of this run instead")
    arguments = parser.parse_args()
    budget = int(arguments.memory_gib * 2**30)
    print(
        f"{usable_processors()} processors; {JOBS} fits at a time; {FOLDS} folds; "
        f"budget {arguments.memory_gib:g} GiB"
    )
    head = ("task", "n", "d", "peer s", "peer cells", "ours s", "ratio", "score diff", "same best", "MiB")
    print("{:<24}{:>7}{:>6}{:>10}{:>12}{:>9}{:>8}{:>12}{:>11}{:>8}".format(*head))
    for task, n in itertools.product(TASKS, [0] if arguments.run else arguments.slices):
        if arguments.tasks and task.head not in arguments.tasks:
            continue
        if arguments.run:
            X, y, patients = embeddings_of_run(arguments.run)
        else:
            X, y, patients = embeddings(n, arguments.dimension)
        n = len(X)
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        data = (X, y, list(splitter.split(X, y, patients)))
        seconds, megabytes, found = alone(ours, task, data, budget)
        chosen, n_folds = task.sample(n, arguments.peer_settings)
        peer_seconds, scale, expected = alone(peer, task, data, chosen, n_folds)
        differences = [
            np.abs(found[f"split{fold}_test_score"][chosen] - expected[f"split{fold}_test_score"]).max()
            for fold in range(n_folds)
        ]
        ours_best = np.mean([found[f"split{fold}_test_score"][chosen] for fold in range(n_folds)], axis=0)
        same = "yes" if ours_best.argmax() == expected["mean_test_score"].argmax() else "NO"
        cells = f"{len(chosen) * n_folds}/{len(found['params']) * FOLDS}"
        print(
            f"{task.title:<24}{n:>7,}{X.shape[1]:>6}{peer_seconds * scale:>10.1f}{cells:>12}{seconds:>9.2f}"
            f"{peer_seconds * scale / seconds:>8.1f}{max(differences):>12.1e}{same:>11}{megabytes:>8.0f}",
            flush=True,
        )
    print("peer s is scaled to all cells from those timed; score diff and same best are over the cells timed")


if __name__ == "__main__":
    main()
