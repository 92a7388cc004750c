"""Debian packages whose programs some tests hold results against; without them these are named, not run.

A test says which it needs: ``@pytest.mark.debian("dcmtk")``. Run as a script, this prints all of them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["PROVIDED", "missing"]

# Package -> the program or file by which it is known to be there.
PROVIDED = {
    "dicom3tools": "dciodvfy",
    "dcmtk": "dsrdump",
    "chromium": "chromium",
    "orthanc": "Orthanc",
    "orthanc-dicomweb": "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    "openssl": "openssl",
}


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed here."""
    return [name for name in packages if not (shutil.which(PROVIDED[name]) or Path(PROVIDED[name]).is_file())]


if __name__ == "__main__":
    print(*PROVIDED)
