"""A trained head or network of a run in an MLflow store: settings, figures with intervals, files."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from haemo.errors import BadSettings, MissingExtra, NotTracked
from haemo.pipeline.run.directory import RunDirectory
from haemo.tables import read_rows

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["AUTO", "track"]

log = logging.getLogger("haemo")

AUTO = "auto"
"""In place of a URI: an SQLite file ``tracking.db`` beside the run directory; no server."""

_KEY = "haemo.key"  # what a model was made from and how: one entry a model, however often it is tracked
_FILES = ("settings.json", "metrics.json", "grid.csv", "history.csv")  # none names a patient
_LONGEST = 500  # characters of a parameter that every store takes


def track(run: RunDirectory, name: str, uri: str) -> str | None:
    """Tell a store of one trained model of a run.

    The experiment has the name of the run directory. Figures of the test slices are metrics, with ``_low``
    and ``_high`` where there is an interval, those out of fold begin with ``cv_``; every setting of a grid
    is a run below the model's. Predictions, which name patients, and the model itself are not told.

    Parameters
    ----------
    run : RunDirectory
    name : str
        Of the head or network.
    uri : str
        Of an MLflow store, or `AUTO`.

    Returns
    -------
    str or None
        Id of the entry; None where the same model was tracked there before.

    Raises
    ------
    MissingExtra
        If MLflow is not installed.
    BadSettings
        If the URI is none.
    NotTracked
        If the store cannot be written to.
    """
    folder = run.model_path(name)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    with _store(run, uri) as (client, experiment):
        key = str(settings.get("key", ""))
        if key and client.search_runs([experiment], f"tags.`{_KEY}` = '{key}' and tags.model = '{name}'"):
            return None
        parent = client.create_run(experiment, run_name=name, tags={_KEY: key, "model": name})
        identity = str(parent.info.run_id)
        for parameter, value in _flat(settings):
            client.log_param(identity, parameter, value[:_LONGEST])
        for metric, value in _figures(metrics):
            client.log_metric(identity, metric, value)
        for file in _FILES:
            if (folder / file).is_file():
                client.log_artifact(identity, str(folder / file))
        for number, row in enumerate(_grid(folder / "grid.csv"), start=1):
            _below(client, experiment, identity, f"{name} {number}", row, settings)
        client.set_terminated(identity)
        return identity


def _below(
    client: "MlflowClient",
    experiment: str,
    parent: str,
    name: str,
    row: Mapping[str, str],
    settings: Mapping[str, Any],
) -> None:
    """One setting of a grid, as a run below the model's."""
    child = client.create_run(experiment, run_name=name, tags={"mlflow.parentRunId": parent})
    for column, value in row.items():
        if column in settings["grid"]:
            client.log_param(child.info.run_id, column, value)
        elif value:
            metric = f"{settings['metric']}_{column}" if column in ("mean", "sd") else column
            client.log_metric(child.info.run_id, metric, float(value))
    client.set_terminated(child.info.run_id)


@contextmanager
def _store(run: RunDirectory, uri: str) -> "Iterator[tuple[MlflowClient, str]]":
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise MissingExtra("tracking needs MLflow: pip install 'haemo[track]'") from error
    experiment, place = run.path.resolve().name, run.path.resolve().parent
    if uri == AUTO:
        uri = f"sqlite:///{place / 'tracking.db'}"
    if not urlsplit(uri).scheme:
        raise BadSettings(f"{uri!r} is no URI of a store; as sqlite:///FILE, http://HOST, or {AUTO}")
    # Where a database is told of files it keeps only where they are: beside it, not in the current folder.
    files = (place / "tracking").as_uri() if uri.startswith("sqlite:") else None
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # MLflow's own use of SQLAlchemy's older ways, which its next releases will leave.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            own = (
                found.experiment_id
                if found
                else client.create_experiment(experiment, artifact_location=files)
            )
            yield client, own
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise NotTracked(
                f"the model is trained and kept, but {uri.split('@')[-1]} could not be told: {reason}; "
                f"type the command again to tell it"
            ) from error


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings as names with dots and texts; lists as JSON."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value if isinstance(value, str) else json.dumps(value)


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for part, before in (("test", ""), ("cv", "cv_")):
        own = metrics.get(part) or {}
        for name, value in own.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield before + name, float(value)
        for name, entry in own.get("intervals", {}).items():
            for end in ("low", "high"):
                yield f"{before}{name}_{end}", float(entry[end])


def _grid(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    (_, names), *rows = read_rows(path)
    return [dict(zip(names, fields, strict=True)) for _, fields in rows]
