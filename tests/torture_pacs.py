"""Studies sent to a listener that is killed again and again: none may be lost, and none reported twice.

    make torture-pacs ARGS="--studies 60 --kills 10"
    make torture-pacs ARGS="--studies 60 --kills 10 --through"

The results go to Orthanc where it is installed, else to a small PACS in this process. With --through studies
are sent to Orthanc, which sends them on to the listener, and tries again what failed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from debian_packages import missing
from dicom_studies import write_study
from pacs_servers import Orthanc, StandIn, free_port, store

_CODE = "import sys; from haemo.pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
_LONGEST_SECONDS = 1200


def torture(
    server: Orthanc | StandIn,
    folder: Path,
    *,
    studies: int,
    kills: int,
    seed: int = 0,
    port: int | None = None,
    through: bool = False,
) -> dict[str, int]:
    """Send `studies`, every second with a bleed; SIGKILL the listener `kills` times, spread over the work.

    A sender does as a PACS does: what has no answer is sent again. With `through` the sender is Orthanc,
    which gets all studies first and sends them to `port`.
    """
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(studies):
        place = write_study(folder / "studies" / str(number), number, bleeds=number % 2 == 1, slices=2)
        paths.append(sorted(place.iterdir()))
    port, state = port or free_port(), folder / "state"
    listener = _start(port, state, server.address)
    left, killed, done, tried_again = list(paths), 0, 0, 0
    if through:
        for own in paths:
            assert set(store(own, server.port, called=server.aet)) == {0}
        left = []
    end = time.monotonic() + _LONGEST_SECONDS
    # The work goes through taking, scoring and sending; a kill after every so many reports meets each.
    every = studies / (kills + 1)
    try:
        while (left or done < studies) and time.monotonic() < end:
            for own in left[:3]:
                if set(store(own, port)) == {0}:
                    left.remove(own)
                else:
                    time.sleep(0.5)  # as it starts
            if through:
                tried_again += server.try_again()
            done = sum(one.modality == "SR" for one in server.results())
            if killed < kills and done >= every * (killed + rng.random()):
                time.sleep(rng.uniform(0, 0.4))
                listener.kill()
                listener.wait()
                killed += 1
                listener = _start(port, state, server.address)
            time.sleep(0.1)
    finally:
        listener.kill()
        listener.wait()
    results = server.results()
    reports = Counter(one.study for one in results if one.modality == "SR")
    outlines = Counter(one.study for one in results if one.modality == "SEG")
    return {
        "studies": studies,
        "kills": killed,
        **({"sent again by Orthanc": tried_again} if through else {}),
        "reports": sum(reports.values()),
        "segmentations": sum(outlines.values()),
        "lost": studies - len(reports),
        "double": sum(count > 1 for own in (reports, outlines) for count in own.values()),
    }


def _start(port: int, state: Path, to: str) -> subprocess.Popen:
    arguments = [
        "pacs",
        "listen",
        "--model",
        "builtin",
        "--port",
        str(port),
        "--to",
        to,
        "--state",
        str(state),
    ]
    with (state.parent / "listener.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _CODE, *arguments, "--quiet-time", "1"], stdout=log, stderr=log
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--through", action="store_true", help="studies go through Orthanc to the listener")
    settings = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="torture-pacs-"))
    is_real = not missing(["orthanc", "orthanc-dicomweb"])
    if settings.through and not is_real:
        sys.exit("--through needs Orthanc: apt-get install orthanc orthanc-dicomweb")
    port = free_port()
    forward_to = port if settings.through else None
    server = Orthanc(folder / "orthanc", forward_to) if is_real else StandIn()
    start = time.monotonic()
    try:
        asked = {"studies": settings.studies, "kills": settings.kills, "seed": settings.seed}
        found = torture(server, folder, **asked, port=port, through=settings.through)
    finally:
        server.close()
    print(
        f"results in {'Orthanc' if is_real else 'a stand-in PACS; apt-get install orthanc for the real one'}"
    )
    print(json.dumps({**found, "seconds": round(time.monotonic() - start)}))
    if found["lost"] or found["double"]:
        sys.exit(f"kept to look at: {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
