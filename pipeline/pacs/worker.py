"""The work on complete studies: scored once, results written, sent, and tried again where that fails."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.errors import HaemoError, UnreadableSlice
from haemo.pipeline.dicom_results.results import StudyResult, findings_of, write_study
from haemo.pipeline.dicom_results.scorer import Scorer
from haemo.pipeline.pacs.delivery import Delivery, NotDelivered
from haemo.pipeline.pacs.inbox import Inbox
from haemo.pipeline.pacs.state import Case, State

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Worker"]

log = logging.getLogger("haemo.pacs")

_PAUSE_SECONDS = 0.2
_MOST_UNEXPECTED = 3


class Worker:
    """Scores and sends, one study at a time.

    Whatever it has done is in the state before it goes on, so that it may be killed at any moment: a study
    whose results are not known there is scored anew, and results that may have been taken already are sent
    again under the same identifiers, which a PACS keeps once.

    Parameters
    ----------
    inbox : Inbox
    scorer : Scorer
    delivery : Delivery
    quiet_seconds : float
        A study is complete when no image has come for as long.
    keep_hours : float
        How long files are kept after a study was sent or failed for good.
    """

    def __init__(
        self,
        inbox: Inbox,
        scorer: Scorer,
        delivery: Delivery,
        *,
        quiet_seconds: float = 30.0,
        keep_hours: float = 24.0,
    ):
        self._inbox = inbox
        self._state: State = inbox.state
        self._scorer = scorer
        self._delivery = delivery
        self._quiet = quiet_seconds
        self._keep = keep_hours * 3600

    def run(self, ended: Callable[[], bool]) -> None:
        """Work until `ended` says so; a study that is begun is finished first."""
        while not ended():
            if not self.step():
                time.sleep(_PAUSE_SECONDS)

    def finish(self) -> None:
        """Work until nothing is left but what waits for its next try."""
        while self.step():
            pass

    def step(self) -> bool:
        """Do one thing; False where there is nothing to do now."""
        self._inbox.clear(time.time() - self._keep)
        case = self._state.begin_sending()
        if case is not None:
            self._send(case)
            return True
        case = self._state.begin_scoring(self._quiet)
        if case is not None:
            self._score(case)
            return True
        return False

    def _score(self, case: Case) -> None:
        try:
            result = self._results(case)
        except HaemoError as error:
            self._give_up(case, _without_places(str(error)), again=False)
        except OSError as error:
            self._give_up(case, f"{error.strerror or type(error).__name__}", again=True)
        # One study that nobody thought of must not end the service for all others.
        except Exception as error:
            reason = f"unexpected: {type(error).__name__}"
            self._give_up(case, reason, again=case.scorings < _MOST_UNEXPECTED)
        else:
            self._state.scored(case, result.report.parent.name, result.positive)
            said = "positive" if result.positive else "negative"
            log.info("case %d: %d images scored, %s", case.number, case.slices, said)

    def _results(self, case: Case) -> StudyResult:
        scores, outlined = self._scorer.score([self._inbox.images(case)])
        findings, failures = findings_of(scores, outlined, self._scorer.how)
        if not findings:
            raise UnreadableSlice(failures[0].reason)
        left = len(scores.failures) + len(failures)
        if left:
            log.warning("case %d: %d images or series could not be used", case.number, left)
        folder = self._inbox.results(case)
        number = 1 + len(list(folder.glob("*"))) if folder.exists() else 1
        return write_study(
            folder / str(number), findings[case.uid], self._scorer.identity, _earlier(folder, case)
        )

    def _give_up(self, case: Case, reason: str, *, again: bool) -> None:
        next_try = self._state.failed(case, reason, again=again)
        log.warning("case %d: not scored%s", case.number, _when(next_try))

    def _send(self, case: Case) -> None:
        folder = self._inbox.results(case) / case.result
        # Segmentations first: the report refers to them.
        files = [*sorted(folder.glob("outlines-*.dcm")), *sorted(folder.glob("report.dcm"))]
        try:
            if not files:
                raise NotDelivered("its results are not there any more")
            self._delivery.send(files)
        except (NotDelivered, OSError) as error:
            next_try = self._state.failed(case, str(error), again=bool(files))
            log.warning("case %d: not sent%s", case.number, _when(next_try))
        else:
            self._state.sent(case)
            log.info("case %d: %d results sent", case.number, len(files))


def _earlier(folder: Path, case: Case) -> "Dataset | None":
    """The report that was sent before more images came, which the next one takes the place of."""
    import pydicom

    path = folder / case.sent_result / "report.dcm"
    return pydicom.dcmread(path) if case.sent_result and path.is_file() else None


def _without_places(text: str) -> str:
    """A reason without the folders of this machine."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in text.split())


def _when(next_try: float | None) -> str:
    if next_try is None:
        return "; haemo pacs status says why"
    return f", tried again in {max(next_try - time.time(), 0):.0f} s; haemo pacs status says why"
