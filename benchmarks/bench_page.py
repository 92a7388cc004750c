"""How long a slice of the page takes while others read and drop studies, and how soon a dropped one is seen.

    make bench-page ARGS="--seconds 30"

Four readers scroll through phantom studies of 30 slices of 512 x 512, ten slices a second each, while a fifth
drops one such study after another, which are scored meanwhile. All of it, the readers too, has two cores, and
speaks HTTP over the loopback device alone. The browser's own share (it draws a slice in some milliseconds) is
not in it: `make screenshots` says how long Chromium takes to the first picture.
"""

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from haemo.features.phantom import CohortSettings, write_cohort

READERS = 4
CORES = 2
SLICES_A_SECOND = 10.0
SLICES = 30
SERVE = "import sys; from haemo.pipeline.cli import main; main()"


class Reader:
    """One browser: a connection that stays open, and a session."""

    def __init__(self, address: str):
        parts = urlsplit(address)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        self.origin = f"http://{parts.netloc}"
        self.headers: dict[str, str] = {}
        answer, _ = self.ask("GET", f"/?{parts.query}")
        self.headers["Cookie"] = answer.getheader("set-cookie").split(";")[0]
        _, page = self.ask("GET", "/")
        secret = re.search(r'name="csrf" content="([^"]+)"', page.decode()).group(1)
        self.headers |= {"x-haemo-csrf": secret, "Origin": self.origin}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str):
        self.connection.request(method, path, body, {**self.headers, **headers})
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status < 400, content
        return answer, content

    def drop(self, files: list[Path]) -> tuple[str, float]:
        """Drop a study; its key, and the seconds until its first slice is there."""
        began = time.perf_counter()
        upload = json.loads(self.ask("POST", "/uploads")[1])["upload"]
        for file in files:
            self.ask("POST", f"/uploads/{upload}/files", file.read_bytes(), **{"x-name": quote(file.name)})
        (study,) = json.loads(self.ask("POST", f"/uploads/{upload}/studies")[1])["studies"]
        self.ask("GET", f"/studies/{study['key']}/slices/1")
        return study["key"], time.perf_counter() - began


def phantom_studies(folder: Path) -> list[Path]:
    """One study for each reader: the same phantom, as series of their own."""
    write_cohort(folder / "drawn", CohortSettings(patients=1, slices=(SLICES, SLICES), prevalence=1))
    studies = []
    for number in range(READERS + 1):
        studies.append(folder / str(number))
        studies[-1].mkdir()
        series = generate_uid()
        for path in (folder / "drawn").glob("P*/*.dcm"):
            dataset = dcmread(path)
            dataset.SeriesInstanceUID = series
            dataset.save_as(studies[-1] / path.name)
    return studies


def scroll(reader: Reader, keys: list[str], until: float, times: list[float]) -> None:
    step, due = 0, time.perf_counter()
    while due < until:
        time.sleep(max(0.0, due - time.perf_counter()))
        key, number = keys[step // SLICES % len(keys)], step % SLICES + 1
        began = time.perf_counter()
        reader.ask("GET", f"/studies/{key}/slices/{number}")
        times.append(time.perf_counter() - began)
        step, due = step + 1, max(due + 1 / SLICES_A_SECOND, time.perf_counter())


def drop_on(reader: Reader, files: list[Path], until: float, times: list[float]) -> None:
    while time.perf_counter() < until:
        times.append(reader.drop(files)[1])
        time.sleep(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studies = phantom_studies(folder)
        named = map(str, studies[:READERS])
        command = [sys.executable, "-c", SERVE, "serve", "--model", "builtin", *named]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().strip()
            files = sorted(studies[READERS].glob("*.dcm"))
            first = Reader(address)
            alone = [first.drop(files)[1] for _ in range(3)]
            readers = [Reader(address) for _ in range(READERS + 1)]
            keys = [row["key"] for row in json.loads(readers[0].ask("GET", "/worklist")[1])]
            slices: list[list[float]] = [[] for _ in range(READERS)]
            drops: list[float] = []
            until = time.perf_counter() + options.seconds
            own = [(readers[n], keys[n:] + keys[:n], until, slices[n]) for n in range(READERS)]
            threads = [threading.Thread(target=scroll, args=one) for one in own]
            threads.append(threading.Thread(target=drop_on, args=(readers[-1], files, until, drops)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            server.terminate()
            server.wait()
    every = 1000 * np.concatenate(slices)
    print(f"{len(every)} slices for {READERS} readers, {len(drops)} studies dropped meanwhile, {CORES} cores")
    print("a slice, ms: " + ", ".join(f"{p} % within {np.percentile(every, p):.0f}" for p in (50, 95, 99)))
    seen = f"{np.median(alone):.2f} alone, {max(drops):.2f} at most"
    print(f"first slice of a dropped study of {SLICES}, s: {seen}")


if __name__ == "__main__":
    main()
