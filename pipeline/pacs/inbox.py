"""Images on their way in: limits, a folder a case, and each image on disk before it is acknowledged."""

import hashlib
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from haemo.atomic import replacing
from haemo.errors import HaemoError
from haemo.pipeline.pacs.state import Case, State

__all__ = ["Inbox", "Limits", "Refused"]


class Refused(HaemoError):
    """An image is not taken; the message names the limit that it passes, and nothing of the patient."""


@dataclass(frozen=True)
class Limits:
    """What is taken at most.

    Attributes
    ----------
    image_mb : float
        Of one image.
    slices : int
        Of one study.
    folder_gb : float
        Of all images in the state folder.
    associations : int
        That send at once.
    """

    image_mb: float = 64.0
    slices: int = 2000
    folder_gb: float = 20.0
    associations: int = 10


class Inbox:
    """Puts images into the folders of their cases; may be called from several threads.

    Parameters
    ----------
    folder : Path
        The state folder.
    state : State
    limits : Limits
    """

    def __init__(self, folder: Path, state: State, limits: Limits):
        self.folder = folder
        self.state = state
        self.limits = limits
        self._lock = threading.Lock()

    def images(self, case: Case) -> Path:
        """Folder of the images of a case."""
        return self._case(case.number) / "images"

    def results(self, case: Case) -> Path:
        """Folder of the results of a case, of all times that it was scored."""
        return self._case(case.number) / "results"

    def take(self, study: str, image: str, data: bytes) -> bool:
        """Store a file; when this returns it is on disk and known. False where it was known before.

        Parameters
        ----------
        study, image : str
            StudyInstanceUID and SOPInstanceUID.
        data : bytes
            The whole file.

        Raises
        ------
        Refused
            If a limit is passed.
        OSError
            If it cannot be written.
        """
        if len(data) > self.limits.image_mb * 1e6:
            raise Refused(f"an image of {len(data) / 1e6:.1f} MB; the limit is {self.limits.image_mb:g} MB")
        with self._lock:
            if not self.state.image_is_new(study, image):
                return False
            if self.state.bytes_kept() + len(data) > self.limits.folder_gb * 1e9:
                raise Refused(f"the state folder is full: its limit is {self.limits.folder_gb:g} GB")
            number = self.state.number_of(study)
            case = self.state.find(study)
            if case is not None and case.slices >= self.limits.slices:
                reason = f"it has more than {self.limits.slices} images; the limit is set with --most-slices"
                self.state.refuse(number, reason)
                raise Refused(f"case {number}: {reason}")
            place = self._case(number) / "images"
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Identifiers are not for file names: they are whatever the sender says.
            name = hashlib.sha256(image.encode()).hexdigest()[:32]
            with replacing(place / f"{name}.dcm") as temporary:
                temporary.write_bytes(data)
            self.state.add_image(number, image, len(data))
        return True

    def clear(self, before: float) -> int:
        """Delete the files of studies that were finished before a moment; returns how many studies."""
        cases = self.state.finished_before(before)
        for case in cases:
            shutil.rmtree(self._case(case.number), ignore_errors=True)
            self.state.files_deleted(case)
        return len(cases)

    def _case(self, number: int) -> Path:
        return self.folder / "cases" / f"{number:06}"
