"""The commands that train a head on cached features: ``haemo svm``, ``haemo softmax``, ``haemo mlp``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.pipeline.cli.clusters import cluster_options, on_cluster
from haemo.pipeline.cli.console import progress, run_option, track_option, tracked
from haemo.pipeline.cli.figures import show_trained
from haemo.pipeline.cli.protocol import (
    folds_option,
    new_split_option,
    protocol_option,
    split_request,
    train_fraction_option,
)

if TYPE_CHECKING:
    from haemo.pipeline.training.head import HeadResult

__all__ = ["mlp", "softmax", "svm", "train"]

_ABOUT = {
    "svm": """Train a support vector machine on the features of a run.

    A linear SVM with squared hinge loss, or with --kernel a kernel SVM. C (and gamma, degree) are chosen by
    cross-validation over whole patients; the test slices are predicted once. Writes RUN/svm/, on a named set
    of features RUN/svm-SET/.
    """,
    "softmax": """Train a softmax (multinomial logistic) regression on the features of a run.

    C is chosen by cross-validation over whole patients; the test slices are predicted once. Writes
    RUN/softmax/.
    """,
    "mlp": """Train a multi-layer perceptron on the features of a run.

    One hidden layer, stopped early on training patients held out whole; its L2 penalty is chosen by
    cross-validation over whole patients; the test slices are predicted once. Writes RUN/mlp/.
    """,
}


_SETTINGS = (
    run_option,
    click.option(
        "--features",
        metavar="SET[,SET]",
        help="Sets of features of the run, side by side, as named by 'haemo features --name'.  "
        "[default: the one without a name]",
    ),
    click.option(
        "--grid",
        "grids",
        multiple=True,
        metavar="NAME=V,V",
        help="Values to search for one parameter, e.g. C=1e-6,1e-5. May be given again.",
    ),
    click.option(
        "--metric",
        type=click.Choice(["roc_auc", "average_precision", "balanced_accuracy", "accuracy", "f1", "mcc"]),
        default="roc_auc",
        show_default=True,
        help="What the search maximises. Several classes: the mean of each against the others.",
    ),
    click.option(
        "--class-weight",
        type=click.Choice(["balanced", "none"]),
        default="balanced",
        show_default=True,
        help="Weigh slices inversely to the frequency of their class.",
    ),
    click.option(
        "--calibration",
        type=click.Choice(["sigmoid", "isotonic", "none"]),
        default="sigmoid",
        show_default=True,
        help="How out-of-fold scores become probabilities (none: softmax and mlp only).",
    ),
    click.option(
        "--threshold",
        metavar="NUMBER|youden|sensitivity=S|specificity=S",
        help="Probability from which the positive class is predicted, or how it is chosen out of fold.  "
        "[default: youden; 0.5 under a published --protocol and with more than two classes]",
    ),
    click.option("--normalise", is_flag=True, help="Scale each embedding to length 1 first."),
    click.option(
        "--pca", type=click.IntRange(1), metavar="N", help="Keep N principal components of the features."
    ),
    click.option("--augment", is_flag=True, help="Train on the rotated variants of training slices too."),
    click.option(
        "--context",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Join the features of N slices on either side of each slice in its study, from the store.",
    ),
    click.option(
        "--smooth",
        is_flag=True,
        help="Smooth scores over neighbouring slices (1/4, 1/2, 1/4) before they are calibrated.",
    ),
)

_SPLIT = (
    folds_option,
    train_fraction_option,
    click.option("--seed", type=int, help="Seed of a new split and of the head.  [default: 0]"),
    protocol_option,
    new_split_option,
)

_RESOURCES = (
    click.option("--jobs", type=click.IntRange(1), help="Fits at a time, in threads.  [default: one a core]"),
    click.option(
        "--memory",
        type=click.FloatRange(0, min_open=True),
        metavar="GIB",
        help="Budget for features and kernel matrices. Linear heads read larger features in blocks; "
        "others stop and say so.  [default: half of the free memory]",
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where matrix products are made.",
    ),
    track_option,
    cluster_options,
)


name_option = click.option(
    "--name", metavar="NAME", help="What the head is called in the run.  [default: svm, or svm-SET and so on]"
)


def _shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((*_SETTINGS, *_SPLIT, *_RESOURCES)):
        command = option(command)
    return command


@click.command(help=_ABOUT["svm"])
@click.option(
    "--kernel",
    type=click.Choice(["linear", "rbf", "poly", "sigmoid"]),
    help="Kernel SVM with hinge loss, in place of the linear SVM with squared hinge loss.",
)
@click.option("--C", "c", metavar="V,V", help="Short for --grid C=V,V.")
@click.option(
    "--nystroem",
    type=click.IntRange(1),
    metavar="N",
    help="Approximate the kernel by N features, for more slices than memory holds a kernel matrix of.",
)
@name_option
@_shared_options
def svm(**options: Any) -> int:
    """Train the head ``svm``."""
    return _train("svm", **options)


@click.command(help=_ABOUT["softmax"])
@click.option("--C", "c", metavar="V,V", help="Short for --grid C=V,V.")
@name_option
@_shared_options
def softmax(**options: Any) -> int:
    """Train the head ``softmax``."""
    return _train("softmax", **options)


@click.command(help=_ABOUT["mlp"])
@name_option
@_shared_options
def mlp(**options: Any) -> int:
    """Train the head ``mlp``."""
    return _train("mlp", **options)


@click.command()
@click.option(
    "--head", metavar="NAME", help="A head by name: built in, or of an installed plug-in (docs/extending.md)."
)
@click.option(
    "--estimator",
    metavar="CLASS",
    help="Any classifier of scikit-learn's kind, as sklearn.ensemble.RandomForestClassifier.",
)
@click.option("--name", metavar="NAME", help="What the head of --estimator is called in the run.")
@_shared_options
def train(head: str | None, estimator: str | None, name: str | None, **options: Any) -> int:
    """Train any classifier on the features of a run, as svm is trained.

    The same split, folds of whole patients, calibration and threshold; what --grid names is searched. It
    stands in compare, report and predict under its name. Writes RUN/NAME/.

    \b
    haemo train --estimator sklearn.ensemble.RandomForestClassifier --name forest --grid n_estimators=200,500
    """
    if (head is None) == (estimator is None):
        raise click.UsageError("name one: --head NAME, or --estimator CLASS with --name NAME")
    if (estimator is None) != (name is None):
        raise click.UsageError("--name goes with --estimator: what that head is called in the run")
    return _train(head or name, name=name, estimator=estimator, **options)


def _train(
    kind: str,
    run_path: Path,
    grids: tuple[str, ...],
    name: str | None,
    features: str | None,
    c: str | None = None,
    **options: Any,
) -> int:
    from haemo.models.heads.spec import HeadSpec, parse_grid
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.training.head import HeadSettings, train_head
    from haemo.pipeline.training.resources import Resources

    split = split_request(options, "seed", "folds")
    memory, uri = options.pop("memory"), options.pop("track")
    workers = on_cluster(options.pop("cluster"), options.pop("cluster_config"))
    resources = Resources(
        jobs=options.pop("jobs"),
        memory=None if memory is None else int(memory * 2**30),
        device=options.pop("device"),
    )
    typed = [*grids, *([f"C={c}"] if c else [])]
    spec = HeadSpec(kind, options.get("kernel"), estimator=options.get("estimator"))
    grid = parse_grid(typed, spec)
    sets = tuple(one.strip() for one in features.split(",")) if features else ()
    settings = HeadSettings(grid=grid, rotations=options.pop("augment"), features=sets, **options)
    run = RunDirectory(run_path)
    with workers:
        result = train_head(
            run, kind, settings, called=name, split=split, resources=resources, progress=progress
        )
    _print(result, run)
    tracked(run, result.name, uri)
    return 3 if result.facts["slices"]["missing"] else 0


def _print(result: "HeadResult", run: Any) -> None:
    facts = result.facts
    parameters = ", ".join(
        f"{name} = {value:g}" if isinstance(value, int | float) else f"{name} = {value}"
        for name, value in facts["parameters"].items()
    )
    mean, sd = facts["search"]["mean"], facts["search"]["sd"]
    judged = "on the test slices: LEAKY" if facts.get("chosen_on_test") else f"sd {sd:.3f} over folds"
    click.echo(f"{result.name}: {parameters or 'as it is'} ({facts['metric']} {mean:.3f}, {judged})")
    show_trained(result.name, result.facts, result.metrics, "out of fold")
    click.echo(f"{'kept in' if result.up_to_date else 'written to'} {run.model_path(result.name)}")
    others = [name for name in run.trained() if name != result.name]
    following = "compare" if others else "softmax" if result.name == "svm" else "svm"
    click.echo(f"next: haemo {following} --run {run}")
