"""The commands of stage one: ``haemo features`` and ``haemo verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.pipeline.cli.clusters import chosen_cluster, cluster_options
from haemo.pipeline.cli.console import crop_option, is_typed, network_names, progress, run_option

if TYPE_CHECKING:
    from haemo.pipeline.run.directory import RunDirectory

__all__ = ["features", "verify"]


def _three_windows(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse what are no three windows before anything is opened or a cluster is asked."""
    from haemo.errors import BadSettings

    if value is not None:
        from haemo.features.views.preprocess import Preprocessing

        try:
            Preprocessing.for_windows(value)
        except BadSettings as error:
            raise click.UsageError(str(error)) from error
    return value


@click.command()
@run_option
@click.option(
    "--name",
    default="default",
    metavar="SET",
    help="A set of features with a name of its own, beside the one without: RUN/feature-sets/SET/.",
)
@click.option(
    "--network",
    default="alexnet",
    show_default=True,
    metavar="alexnet|torchvision:NAME|cnn|NAME",
    shell_complete=network_names,
    help="torchvision:resnet18 and others; cnn: the scratch CNN in the folder --weights, trained by "
    "'haemo cnn' on this run's split; or one of a plug-in.",
)
@click.option(
    "--layer",
    metavar="fc7|fc6|pool5|pool4|pool3|penultimate|MODULE",
    help="Layer whose activations are kept. AlexNet: fc7, fc6, pool5, pool4 or pool3: 4096, 4096, 9216, "
    "9216 or 13824 numbers a slice; "
    "other networks: any module by its name, or what the last linear layer is given.  "
    "[default: fc7, or penultimate]",
)
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="auto|trunk|builtin|random|FILE|FOLDER",
    help="Network weights. auto: torchvision's, else the trunk; trunk: to pool5; builtin: comes with haemo, "
    "to pool5, further trained on synthetic heads; random: a control.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random weights.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of the network. auto: bfloat16 where the hardware has it.",
)
@click.option(
    "--window",
    default="brain",
    show_default=True,
    metavar="brain|subdural|bone|WIDTH/CENTRE",
    help="Window of slices in HU.",
)
@click.option(
    "--windows",
    metavar="A,B,C",
    callback=_three_windows,
    help="Three windows in place of one, each a channel of the network: brain,subdural,bone. Of slices in HU "
    "alone; pictures are refused.",
)
@click.option(
    "--recipe",
    type=click.Choice(["paper", "best", "builtin"]),
    help="A named set of --crop, --upright, --mirror, --layer, --windows and --weights. paper: as published, "
    "the default; best: --crop head --upright --mirror --layer pool3; builtin: --crop head --upright "
    "--mirror --layer pool4 --weights builtin, with no download.",
)
@crop_option
@click.option(
    "--upright/--no-upright",
    default=False,
    help="Turn every slice first so that the midline of its head stands upright in the middle.",
)
@click.option(
    "--mirror/--no-mirror",
    default=False,
    help="Embed the mirror image of each slice too: the sum and the difference of both are kept.",
)
@click.option(
    "--rotations",
    type=click.Choice(["none", "paper"]),
    default="none",
    show_default=True,
    help="paper: also 70, 160 and 270 degrees to the left and to the right.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How embeddings are kept.",
)
@click.option(
    "--batch-size", "batch", type=click.IntRange(1), default=None, help="Slices per pass of the network."
)
@click.option("--workers", type=click.IntRange(1), default=None, help="Decoding threads.  [default: CPUs]")
@cluster_options
@click.option("--new", is_flag=True, help="Replace the present features by new ones.")
@click.option(
    "--import",
    "import_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Take embeddings made elsewhere instead: .h5 with slice_id and embedding, or .npy and .txt.",
)
def features(
    run_path: Path,
    name: str,
    new: bool,
    batch: int | None,
    workers: int | None,
    import_path: Path | None,
    recipe: str | None,
    cluster: str | None,
    cluster_config: Path | None,
    **options: Any,
) -> int:
    """Stage one: turn the slices of RUN into embeddings, in RUN/features.h5.

    What is there already is not computed again, also if a file was moved or renamed. Stop it at any moment:
    the same command goes on from there. Options that are left out are as the present features were made.
    Exit code 3 if some slices could not be used (failures.csv).
    """
    from haemo.models.networks.table import default_layer
    from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features, settings_so_far
    from haemo.pipeline.preparing.recipes import kept_beside
    from haemo.pipeline.run.directory import DEFAULT_SET, RunDirectory

    if options["network"] == "cnn":
        _refuse_options_of_others()
    run = RunDirectory(run_path, features=name)
    run.refuse_set_name()
    if import_path:
        if cluster:
            raise click.UsageError("--import takes what was embedded elsewhere; leave --cluster out")
        return _import(run, import_path, new)
    device = options.pop("device")
    typed = _typed(options)
    if recipe:
        typed |= _of_recipe(recipe, typed, options["network"])
        options |= typed
    options["layer"] = options["layer"] or default_layer(options["network"])
    before = {} if new else kept_beside(recipe, settings_so_far(run))
    chosen = _as_before(options, typed, before)
    rotations = chosen.pop("rotations")
    settings = ExtractionSettings(device=device, **chosen)
    report = make_features(
        run,
        settings,
        rotations=rotations,
        batch=batch,
        workers=workers,
        new=new,
        cluster=chosen_cluster(cluster, cluster_config),
        progress=progress,
    )
    if name != DEFAULT_SET:
        click.echo(f"next: haemo svm --run {run} --features {name}")
    counts = f"{report.cached:,} cached, {report.computed:,} new, {len(report.failures):,} failed"
    click.echo(counts + (f" (see {run.failures_path})" if report.failures else ""))
    return 3 if report.failures else 0


def _import(run: "RunDirectory", path: Path, new: bool) -> int:
    from haemo.pipeline.preparing.imports import import_features

    imported = import_features(run, path, new)
    missing = f", {imported.missing:,} slices of the manifest have none" if imported.missing else ""
    click.echo(f"{imported.rows:,} embeddings of {imported.dimension:,} numbers imported{missing}")
    return 3 if imported.missing else 0


def _typed(options: dict[str, Any]) -> dict[str, Any]:
    """The options that stand on the command line."""
    return {name: value for name, value in options.items() if is_typed(name)}


def _of_recipe(recipe: str, typed: dict[str, Any], network: str) -> dict[str, Any]:
    from haemo.errors import BadSettings
    from haemo.pipeline.preparing.recipes import options_of

    try:
        return options_of(recipe, network, typed)
    except BadSettings as error:
        raise click.UsageError(str(error)) from error


def _as_before(chosen: dict[str, Any], typed: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Options that were not typed take the value that the run has, and this is said."""
    from haemo.pipeline.preparing.recipes import option_in_words, still_meant

    taken = {
        name: value
        for name, value in still_meant(before, typed).items()
        if name in chosen and value != chosen[name] and name not in typed
    }
    if taken:
        listing = ", ".join(option_in_words(name, value) for name, value in taken.items())
        click.echo(f"as in this run so far: {listing}", err=True)
    return {**chosen, **taken}


def _refuse_options_of_others() -> None:
    """The scratch CNN has its own layer, window, crop and precision, and its weights must be named."""
    for name, option in (
        ("layer", "--layer"),
        ("window", "--window"),
        ("windows", "--windows"),
        ("crop", "--crop"),
        ("upright", "--upright"),
        ("recipe", "--recipe"),
        ("precision", "--precision"),
        ("seed", "--seed"),
        ("batch", "--batch-size"),
    ):
        if is_typed(name):
            raise click.UsageError(f"{option} is for AlexNet and its like; the scratch CNN brings its own")
    if not is_typed("weights"):
        raise click.UsageError("--network cnn needs --weights FOLDER, e.g. --weights RUN/cnn")


@click.command()
@run_option
@click.option("--name", metavar="SET", help="One set of features alone ('default' is that without a name).")
@click.option(
    "--repair", is_flag=True, help="Drop the damaged rows, so that 'haemo features' makes them again."
)
def verify(run_path: Path, name: str | None, repair: bool) -> int:
    """Read RUN/features.h5 back and check every bit of it. Exit code 1 if anything is wrong with it.

    Named sets of features are checked too, or with --name one of them alone.
    """
    from haemo.pipeline.run.directory import RunDirectory

    run = RunDirectory(run_path)
    names = [name] if name else run.sets() or [run.features]
    return max(_verify(run.on(one), repair) for one in names)


def _verify(run: "RunDirectory", repair: bool) -> int:
    """Check one set of features; the exit code."""
    from haemo.features.store.store import options_of
    from haemo.features.store.verify import repair_store, verify_store
    from haemo.pipeline.preparing.extraction import command_anew
    from haemo.pipeline.run.claim import claim

    store_path, anew = run.store_path, command_anew(run)
    if repair and store_path.exists():
        with claim(run.path, run.features_step):
            found = repair_store(store_path, progress, anew)
    else:
        found = verify_store(store_path, progress, anew)
    for name in found.damaged:
        click.echo(f"damaged: {name}")
    if found.sound:
        click.echo(f"{store_path}: {found.rows:,} rows, every bit as it was written")
        return 0
    click.echo(f"{store_path}: {found.problem}; {len(found.damaged):,} of {found.rows:,} rows are damaged")
    if repair:
        click.echo(f"They are dropped, the others kept. Make them again: {run.features_command}")
        return 0
    click.echo(f"Drop them and keep the others: haemo verify {options_of(store_path)} --repair")
    return 1
