"""``haemo pacs``: studies in from a PACS, scored once, results back."""

import json
import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.pipeline.cli.console import (
    aggregate_option,
    counted,
    progress,
    series_option,
    table,
    trained_models,
    trust_option,
)
from haemo.pipeline.cli.segment import segmenter_option
from haemo.pipeline.packing.modelfile import BUILTIN

if TYPE_CHECKING:
    from haemo.pipeline.dicom_results.scorer import Scorer
    from haemo.pipeline.pacs.access import Tls
    from haemo.pipeline.pacs.delivery import Delivery
    from haemo.pipeline.pacs.inbox import Limits

__all__ = ["pacs"]

_path = click.Path(path_type=Path, dir_okay=False)

_state_option = click.option(
    "--state",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("pacs"),
    show_default=True,
    metavar="DIR",
    help="Where studies are kept until they are sent, and what became of each; for its owner alone.",
)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_model_options = _options(
    click.option(
        "--run",
        "run_path",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="RUN",
        help="Run directory of the model.",
    ),
    segmenter_option,
    trust_option,
    click.option(
        "--head",
        default="svm",
        show_default=True,
        metavar="NAME",
        shell_complete=trained_models,
        help="Which head or network.",
    ),
    click.option(
        "--threshold",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Probability from which a study is positive.  [default: the model's own]",
    ),
    aggregate_option(),
    series_option,
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
)
_access_options = _options(
    click.option("--tls-cert", type=_path, metavar="FILE", help="Our certificate, PEM."),
    click.option("--tls-key", type=_path, metavar="FILE", help="Its key, PEM."),
    click.option(
        "--tls-ca",
        type=_path,
        metavar="FILE",
        help="Whose certificates are believed; asked of everybody, PEM.",
    ),
    click.option(
        "--credentials",
        type=_path,
        metavar="FILE",
        help="Lines user = and password =, or token =, readable by nobody else.  [default: HAEMO_PACS_USER, "
        "HAEMO_PACS_PASSWORD, HAEMO_PACS_TOKEN]",
    ),
)
_limit_options = _options(
    click.option(
        "--most-mb", type=click.FloatRange(0.1), default=64.0, show_default=True, help="Of one image."
    ),
    click.option(
        "--most-slices", type=click.IntRange(1), default=2000, show_default=True, help="Of one study."
    ),
    click.option(
        "--most-gb", type=click.FloatRange(0.01), default=20.0, show_default=True, help="Of all that is kept."
    ),
    click.option(
        "--keep",
        type=click.FloatRange(0),
        default=24.0,
        show_default=True,
        metavar="HOURS",
        help="How long files are kept after a study was sent.",
    ),
)


@click.group()
def pacs() -> None:
    """Take studies from a PACS, score each once, and send reports and segmentations back."""


@pacs.command()
@_model_options
@click.option("--aet", default="HAEMO", show_default=True, metavar="TITLE", help="Our AE title.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="0: a free one."
)
@click.option(
    "--bind", default="127.0.0.1", show_default=True, metavar="HOST", help="0.0.0.0 lets other machines in."
)
@click.option("--allow", multiple=True, metavar="AET", help="Who may send. May be given again.")
@click.option(
    "--to",
    required=True,
    metavar="AET@HOST:PORT|URL",
    help="Where results go: by C-STORE, or by STOW-RS to a DICOMweb service.",
)
@click.option(
    "--quiet-time",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="A study is complete when no image has come for as long.",
)
@click.option(
    "--connections", type=click.IntRange(1), default=10, show_default=True, help="That send at once."
)
@_state_option
@_access_options
@_limit_options
def listen(
    folder: Path,
    aet: str,
    port: int,
    bind: str,
    allow: tuple[str, ...],
    to: str,
    quiet_time: float,
    keep: float,
    **options: Any,
) -> int:
    """Take CT studies by C-STORE, score each once, send results back; until Ctrl-C.

    Stopped or killed at any moment and started again, it goes on where it was: no study is lost, and none
    reported twice. Nothing of a patient is logged; a study is called by its case number (haemo pacs status).
    Research use only: results say so.
    """
    from haemo.pipeline.pacs.receiving import Address, Listener
    from haemo.pipeline.pacs.service import opened
    from haemo.pipeline.pacs.worker import Worker

    with _discreet():
        limits, tls = _limits(options), _tls(options)
        own = Address(aet, bind, port)
        delivery = _delivery(to, aet, options, tls)
        scorer = _scorer(options)
        with opened(folder, limits) as service:
            if service.again:
                click.echo(f"{service.again} left half scored, to be scored again", err=True)
            worker = Worker(service.inbox, scorer, delivery, quiet_seconds=quiet_time, keep_hours=keep)
            with Listener(own, service.inbox, allow, tls.server()) as listener, _until_stopped() as ended:
                where = f"{aet}@{bind}:{listener.port}"
                click.echo(
                    f"listening as {where}; results to {to}; state in {folder}; Ctrl-C stops", err=True
                )
                worker.run(ended)
            _say_counts(service.state.counts())
    return 0


@pacs.command()
@_model_options
@click.option("--dicomweb", required=True, metavar="URL", help="Of the service, e.g. https://pacs/dicom-web.")
@click.option("--study", multiple=True, metavar="UID", help="Which study. May be given again.")
@click.option("--since", metavar="24h", help="Studies with CT of the last 30m, 24h, 7d ...")
@click.option("--to", metavar="AET@HOST:PORT|URL", help="Where results go.  [default: back to the service]")
@click.option("--aet", default="HAEMO", show_default=True, metavar="TITLE", help="Our AE title for C-STORE.")
@_state_option
@_access_options
@_limit_options
def pull(
    folder: Path,
    dicomweb: str,
    study: tuple[str, ...],
    since: str | None,
    to: str | None,
    aet: str,
    keep: float,
    **options: Any,
) -> int:
    """Fetch CT studies by DICOMweb, score each once, send results back, and end.

    Studies that were sent before are not fetched again, however often this is called. Exit code 3 if some
    studies could not be fetched, scored or sent; those that could not be sent are tried again next time.
    """
    from haemo.pipeline.pacs.access import Credentials
    from haemo.pipeline.pacs.delivery import web_client
    from haemo.pipeline.pacs.pulling import parse_since, studies_since
    from haemo.pipeline.pacs.pulling import pull as fetch
    from haemo.pipeline.pacs.service import opened
    from haemo.pipeline.pacs.worker import Worker

    if bool(study) == bool(since):
        raise click.UsageError("say which studies: --study UID, or --since 24h")
    span = parse_since(since) if since else None
    with _discreet():
        tls = _tls(options)
        client = web_client(dicomweb, Credentials.find(options["credentials"]), tls)
        delivery = _delivery(to or dicomweb, aet, options, tls)
        scorer = _scorer(options)
        with opened(folder, _limits(options)) as service:
            service.state.retry_now()
            wanted = list(study) if span is None else studies_since(client, datetime.now() - span)
            got = fetch(client, wanted, service.inbox, progress)
            Worker(service.inbox, scorer, delivery, quiet_seconds=0, keep_hours=keep).finish()
            counts = service.state.counts()
            _say_counts(counts)
    click.echo(
        f"studies looked at: {got.studies}; {counted(got.images, 'new image')}, {got.known} known before, "
        f"{got.failed} not fetched"
    )
    return 3 if got.failed or counts["failed"] else 0


@pacs.command()
@_state_option
@click.option(
    "--uids", is_flag=True, help="Show StudyInstanceUIDs, which name patients to those who know them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
def status(folder: Path, uids: bool, as_json: bool) -> int:
    """Say what became of each study: received, scoring, scored, sent; or failed, why, and its next try."""
    from haemo.pipeline.pacs.service import STATE_FILE
    from haemo.pipeline.pacs.state import State

    state = State.existing(folder / STATE_FILE)
    try:
        cases, counts = state.cases(), state.counts()
    finally:
        state.close()
    rows = [
        {
            "case": case.number,
            **({"study": case.uid} if uids else {}),
            "state": str(case.state),
            "images": case.slices,
            "positive": case.positive,
            "changed": _moment(case.changed),
            "next_try": _moment(case.next_try),
            "reason": case.reason,
        }
        for case in cases
    ]
    if as_json:
        click.echo(json.dumps({"counts": counts, "cases": rows}, indent=2))
        return 0
    if rows:
        answer = {None: "", True: "positive", False: "negative"}
        cells = [[str(answer[v]) if k == "positive" else str(v) for k, v in row.items()] for row in rows]
        table([name.replace("_", " ").replace("positive", "answer") for name in rows[0]], cells)
    _say_counts(counts)
    return 0


def _say_counts(counts: dict[str, int]) -> None:
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


@contextmanager
def _discreet() -> Iterator[None]:
    """Print what the service says of cases, and nothing that could have a patient's name in it.

    Other rooms log names of files and series, and pydicom quotes values that are no proper ones.
    """
    own, others = logging.getLogger("haemo.pacs"), logging.getLogger("haemo")
    level = others.level
    own.setLevel(level)
    others.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pydicom|pynetdicom|highdicom)(\.|$)")
            yield
    finally:
        others.setLevel(level)
        own.setLevel(logging.NOTSET)


@contextmanager
def _until_stopped() -> Iterator[Callable[[], bool]]:
    """Give what tells whether Ctrl-C or a SIGTERM has come; the study at hand is finished first."""
    stopped: list[int] = []
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, lambda number, frame: stopped.append(number)) for name in names]
    try:
        yield lambda: bool(stopped)
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def _limits(options: dict[str, Any]) -> "Limits":
    from haemo.pipeline.pacs.inbox import Limits

    return Limits(
        options["most_mb"], options["most_slices"], options["most_gb"], options.get("connections", 1)
    )


def _tls(options: dict[str, Any]) -> "Tls":
    from haemo.pipeline.pacs.access import Tls

    return Tls(options["tls_cert"], options["tls_key"], options["tls_ca"])


def _delivery(to: str, aet: str, options: dict[str, Any], tls: "Tls") -> "Delivery":
    from haemo.pipeline.pacs.access import Credentials
    from haemo.pipeline.pacs.delivery import CStore, Stow
    from haemo.pipeline.pacs.receiving import Address

    if "://" in to:
        return Stow(to, Credentials.find(options["credentials"]), tls)
    return CStore(Address.parse(to), aet, tls.client())


def _scorer(options: dict[str, Any]) -> "Scorer":
    from haemo.features.series.choosing import pattern_of
    from haemo.pipeline.dicom_results.scorer import file_scorer, run_scorer
    from haemo.pipeline.evaluation.aggregation import Aggregation
    from haemo.pipeline.packing.modelfile import open_model
    from haemo.pipeline.run.directory import RunDirectory

    run_path, model = options["run_path"], options["model"]
    if (run_path is None) == (model is None):
        raise click.UsageError(f"name one: --run RUN, or --model FILE or {BUILTIN}, which needs no run")
    pattern_of(options["series"])
    said = {
        "how": Aggregation(options["aggregate"]),
        "threshold": options["threshold"],
        "series": options["series"],
    }
    if model is not None:
        found = open_model(model, options["device"], options["trust"], progress)
        return file_scorer(found, None if model == BUILTIN else Path(model), **said)
    return run_scorer(
        RunDirectory(run_path, options["trust"]),
        options["head"],
        device=options["device"],
        progress=progress,
        **said,
    )
