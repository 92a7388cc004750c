"""Readers of the page: a server without a network, and what a browser would send it."""

import io
import os
import secrets
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.testclient import TestClient

from haemo.pipeline.packing.modelfile import BUILTIN
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.serving.app import application
from haemo.pipeline.serving.pixels import PixelCache
from haemo.pipeline.serving.queue import ScoringQueue
from haemo.pipeline.serving.room import ReadingRoom
from haemo.pipeline.serving.runs import RunView
from haemo.pipeline.serving.scored import Model
from haemo.pipeline.serving.sessions import Sessions
from haemo.pipeline.serving.uploads import Limits

__all__ = ["COOKIE", "Desk", "Reader", "archive", "served"]

COOKIE = "haemo_test"


class Desk:
    """A server; `read` gives somebody who has opened its address."""

    def __init__(self, folder: Path, *runs: RunDirectory, limits: Limits | None = None, **options: Any):
        self.folder = folder
        self.token = secrets.token_urlsafe(8)
        self._stack = ExitStack()
        self.queue = self._stack.enter_context(ScoringQueue(folder))
        self.sessions = Sessions(folder, self.token, limits)
        views = [RunView(run, number) for number, run in enumerate(runs)]
        options.setdefault("model", Model(BUILTIN))
        pixels = self._stack.enter_context(PixelCache())
        self.room = ReadingRoom(self.sessions, self.queue, pixels, views=views, **options)
        self.app = application(self.room, COOKIE)

    def read(self) -> "Reader":
        return Reader(self)

    def stranger(self, host: str = "127.0.0.1:8000") -> TestClient:
        """A browser that has not shown the token."""
        client = TestClient(self.app, base_url=f"http://{host}", raise_server_exceptions=False)
        client.follow_redirects = False
        return client

    def close(self) -> None:
        self._stack.close()


class Reader:
    """One browser with a session."""

    def __init__(self, desk: Desk):
        self.client = desk.stranger()
        answer = self.client.get(f"/?token={desk.token}")
        assert answer.status_code == 303
        self.session = desk.sessions.find(self.client.cookies[COOKIE])
        self.origin = {"origin": "http://127.0.0.1:8000", "x-haemo-csrf": self.session.csrf}

    def get(self, address: str, **headers: str) -> Any:
        return self.client.get(address, headers=headers)

    def post(self, address: str, body: bytes = b"", **headers: str) -> Any:
        return self.client.post(address, content=body, headers={**self.origin, **headers})

    def begin(self) -> str:
        return f"/uploads/{self.post('/uploads').json()['upload']}"

    def send(self, upload: str, name: str, content: bytes) -> Any:
        return self.post(f"{upload}/files", content, **{"x-name": quote(name)})

    def drop(self, files: Mapping[str, bytes]) -> Any:
        """Drop files by name; what the server makes of them."""
        upload = self.begin()
        for name, content in files.items():
            answer = self.send(upload, name, content)
            assert answer.status_code == 200, answer.text
        return self.post(f"{upload}/studies")

    def scored(self, key: str, query: str = "") -> dict[str, Any]:
        """What is found on a study, once it is."""
        for _ in range(600):
            found = self.get(f"/studies/{key}/findings{query}").json()
            if found["stage"] in ("scored", "failed"):
                return found
            time.sleep(0.1)
        raise AssertionError("not scored in a minute")


def served(folder: Path, *options: str) -> tuple[subprocess.Popen, str]:
    """`haemo serve` in a process of its own, with `folder` for temporary files, and its address."""
    script = "import sys; from haemo.pipeline.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", *options]
    environment = {**os.environ, "TMPDIR": str(folder)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    return process, process.stdout.readline().strip()


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive, with entries of any name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()
