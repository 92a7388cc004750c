"""The server: one address of this machine, for as long as the command runs."""

import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haemo.errors import BadSettings, MissingExtra
from haemo.pipeline.packing.modelfile import BUILTIN, refuse_no_model
from haemo.pipeline.predicting.prediction import find_slices
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.serving.scored import Model
from haemo.progress import Progress, silent

__all__ = ["Serving", "serve"]

_HOST = "127.0.0.1"
_SECONDS_TO_END = 2
_SECONDS_KEPT = 120  # a connection while its reader looks at a slice


@dataclass(frozen=True)
class Serving:
    """What is served.

    Attributes
    ----------
    runs : sequence of RunDirectory
    paths : sequence of Path
        Files and folders of slices to be read, scored one study after another.
    head : str
        Which model of the first run scores what is dropped.
    model : str
        A model that scores in its place: ``builtin``, or its file.
    trusted : tuple of str
        As of `RunDirectory`, for such a file.
    port : int
        0 takes any that is free.
    """

    runs: Sequence[RunDirectory] = ()
    paths: Sequence[Path] = ()
    head: str = "svm"
    model: str = ""
    port: int = 0
    trusted: tuple[str, ...] = ()

    def scoring_model(self) -> Model:
        """The model that scores what is dropped.

        Raises
        ------
        BadSettings
            If the first run has no such model.
        MissingStep, BadDataset, FingerprintMismatch
            If the file holds no model, as `pipeline.packing.modelfile.open_model`.
        """
        if self.model not in ("", BUILTIN):
            refuse_no_model(self.model)
            return Model(str(Path(self.model).absolute()), trusted=self.trusted)
        if self.model or not self.runs:
            return Model(BUILTIN)
        run = self.runs[0]
        if self.head not in run.models():
            found = ", ".join(run.models())
            trained = f"it has {found}" if found else "train one first"
            raise BadSettings(
                f"{run} has no model {self.head!r}: {trained}; give --head NAME, or --model {BUILTIN}"
            )
        return Model(self.head, run.path.absolute(), run.trusted)


def serve(serving: Serving, ready: Callable[[str], None], progress: Progress = silent) -> None:
    """Serve pages on 127.0.0.1 until Ctrl-C; what was dropped is deleted then.

    Parameters
    ----------
    serving : Serving
    ready : callable
        Is given the address, with its token, once it answers.
    progress : Progress

    Raises
    ------
    BadSettings
        If the port is taken, or there is no model of that name.
    MissingExtra
        If what the page needs is not installed.
    MissingStep
        If a run has not been indexed.
    """
    try:
        import jinja2  # noqa: F401 - the pages will
        import uvicorn

        from haemo.pipeline.serving.app import application
    except ImportError as error:
        raise MissingExtra(
            f"the page needs {error.name}, which is not installed: pip install 'haemo[serve]'"
        ) from error
    from haemo.pipeline.serving.pixels import PixelCache
    from haemo.pipeline.serving.queue import ScoringQueue
    from haemo.pipeline.serving.room import ReadingRoom
    from haemo.pipeline.serving.runs import RunView
    from haemo.pipeline.serving.sessions import Sessions, working_folder
    from haemo.pipeline.serving.studies import sorted_into_studies

    views = [RunView(run, number) for number, run in enumerate(serving.runs)]
    model = serving.scoring_model()
    files, failures = find_slices(serving.paths, progress=progress)
    named = progress([(path, path.name) for path in files], total=len(files), label="files")
    opened, unreadable = sorted_into_studies(named)
    with ExitStack() as stack:
        listening = stack.enter_context(_listening(serving.port))
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        folder = stack.enter_context(working_folder())
        pixels = stack.enter_context(PixelCache())
        queue = stack.enter_context(ScoringQueue(folder))
        sessions = Sessions(folder, token)
        room = ReadingRoom(sessions, queue, pixels, model, views, opened, [*failures, *unreadable])
        app = application(room, f"haemo_{port}")
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # addresses hold keys, and no log is to say what was read
            lifespan="off",
            server_header=False,
            timeout_keep_alive=_SECONDS_KEPT,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        # uvicorn lets Ctrl-C through as KeyboardInterrupt once it has ended; so shall what ends a service.
        for number in (signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, _interrupt))
        ready(f"http://{_HOST}:{port}/?token={token}")
        uvicorn.Server(config).run(sockets=[listening])


def _interrupt(*unused: Any) -> None:
    raise KeyboardInterrupt


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise BadSettings(
            f"port {port} cannot be had ({error.strerror}); give another with --port, or 0 for any"
        ) from error
    return listening
