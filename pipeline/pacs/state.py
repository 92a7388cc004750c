"""What became of each study: one SQLite file, which a process killed at any moment leaves whole."""

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from haemo.errors import BadDataset, MissingStep

__all__ = ["Case", "State", "StudyState"]

_MOST_SCORINGS = 5
_FIRST_WAIT, _LONGEST_WAIT = 10.0, 3600.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    number INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    slices INTEGER NOT NULL DEFAULT 0,
    arrived REAL NOT NULL,
    changed REAL NOT NULL,
    scorings INTEGER NOT NULL DEFAULT 0,
    sendings INTEGER NOT NULL DEFAULT 0,
    next_try REAL,
    reason TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '',
    sent_result TEXT NOT NULL DEFAULT '',
    positive INTEGER,
    kept INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS images (
    uid TEXT PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES studies (number),
    bytes INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS images_of_study ON images (study);
"""


class StudyState(StrEnum):
    """Where a study is."""

    RECEIVED = "received"
    SCORING = "scoring"
    SCORED = "scored"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Case:
    """One study.

    Attributes
    ----------
    number : int
        By which it is called in logs and on disk.
    uid : str
        Its StudyInstanceUID.
    state : StudyState
    slices : int
    arrived, changed : float
        When the last slice came, and when the state changed; seconds since 1970.
    scorings, sendings : int
        How often either was begun since the last slice came.
    next_try : float or None
        When a failed study is tried again; None where it is not.
    reason : str
        Why it failed.
    result, sent_result : str
        Name of the folder with its results, and with those that were sent last; empty before there are any.
    positive : bool or None
        What was found; None before it was scored.
    """

    number: int
    uid: str
    state: StudyState
    slices: int
    arrived: float
    changed: float
    scorings: int
    sendings: int
    next_try: float | None
    reason: str
    result: str
    sent_result: str
    positive: bool | None


class State:
    """The studies of one state folder; may be used from several threads.

    Every method is one transaction that is on disk when it returns.

    Parameters
    ----------
    path : Path
        The SQLite file; it is made if it is not there.
    clock : callable
        Gives seconds since 1970.

    Raises
    ------
    BadDataset
        If the file is no database.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        self.path = path
        self._clock = clock
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self._connection:
                self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise BadDataset(
                f"{path} is no state of studies, or it is damaged ({error}); move it away"
            ) from error

    @classmethod
    def existing(cls, path: Path) -> "State":
        """Open a state that is there; MissingStep where it is not."""
        if not path.is_file():
            raise MissingStep(f"{path} is not there; it is made by haemo pacs listen or haemo pacs pull")
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def image_is_new(self, study: str, image: str) -> bool:
        """Whether an image is still to be stored: not if it is known, unless its study failed for good."""
        case = self.find(study)
        if case is not None and case.state is StudyState.FAILED and case.next_try is None:
            return True
        with self._lock:
            return self._one("SELECT 1 FROM images WHERE uid = ?", image) is None

    def number_of(self, study: str) -> int:
        """Case number of a study, which is made known by this."""
        now = self._clock()
        with self._lock, self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO studies (uid, state, arrived, changed) VALUES (?, ?, ?, ?)",
                (study, StudyState.RECEIVED, now, now),
            )
            return int(self._one("SELECT number FROM studies WHERE uid = ?", study)[0])

    def add_image(self, number: int, image: str, size: int) -> None:
        """An image of a case is on disk; whatever was said of the study before, it is scored with it."""
        now = self._clock()
        with self._lock, self._connection:
            self._connection.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", (image, number, size))
            state = self._one("SELECT state FROM studies WHERE number = ?", number)[0]
            kept = StudyState.SCORING if state == StudyState.SCORING else StudyState.RECEIVED
            self._connection.execute(
                "UPDATE studies SET arrived = ?, changed = ?, state = ?, scorings = 0, sendings = 0,"
                " reason = '', next_try = NULL, kept = 1,"
                " slices = (SELECT count(*) FROM images WHERE study = studies.number) WHERE number = ?",
                (now, now, kept, number),
            )

    def restore(self) -> int:
        """What a process that was killed left half done is to be done again; returns how many studies.

        A study during which the process ended five times is not tried again.
        """
        with self._lock, self._connection:
            now = self._clock()
            self._connection.execute(
                "UPDATE studies SET state = ?, changed = ?, next_try = NULL,"
                " reason = 'the process ended ' || scorings || ' times while it was scored'"
                " WHERE state = ? AND scorings >= ?",
                (StudyState.FAILED, now, StudyState.SCORING, _MOST_SCORINGS),
            )
            again = self._connection.execute(
                "UPDATE studies SET state = ?, changed = ? WHERE state = ?",
                (StudyState.RECEIVED, now, StudyState.SCORING),
            )
            return again.rowcount

    def begin_scoring(self, quiet_seconds: float) -> Case | None:
        """The next study that is complete, now marked as being scored; None where there is none.

        Complete is one to which no image has come for `quiet_seconds`. Those whose scoring ended a process
        come last.
        """
        now = self._clock()
        with self._lock, self._connection:
            row = self._one(
                "SELECT number FROM studies WHERE slices > 0 AND (state = ? AND arrived <= ?"
                " OR state = ? AND result = '' AND next_try <= ?) ORDER BY scorings, arrived LIMIT 1",
                StudyState.RECEIVED,
                now - quiet_seconds,
                StudyState.FAILED,
                now,
            )
            if row is None:
                return None
            self._connection.execute(
                "UPDATE studies SET state = ?, changed = ?, scorings = scorings + 1, result = ''"
                " WHERE number = ?",
                (StudyState.SCORING, now, row[0]),
            )
            return self._case(row[0])

    def scored(self, case: Case, result: str, positive: bool) -> None:
        """A study has results, to be sent; or is to be scored again, where images came meanwhile."""
        with self._lock, self._connection:
            current = self._case(case.number)
            late = current.slices != case.slices or current.arrived != case.arrived
            self._connection.execute(
                "UPDATE studies SET state = ?, changed = ?, result = ?, positive = ?, next_try = NULL,"
                " reason = '' WHERE number = ?",
                (
                    StudyState.RECEIVED if late else StudyState.SCORED,
                    self._clock(),
                    "" if late else result,
                    positive,
                    case.number,
                ),
            )

    def begin_sending(self) -> Case | None:
        """The next study with results that are to be sent now."""
        with self._lock:
            row = self._one(
                "SELECT number FROM studies WHERE result != '' AND (state = ? OR state = ? AND next_try <= ?)"
                " ORDER BY sendings, changed LIMIT 1",
                StudyState.SCORED,
                StudyState.FAILED,
                self._clock(),
            )
            return None if row is None else self._case(row[0])

    def sent(self, case: Case) -> None:
        """The results of a study have been taken; images that came meanwhile are still to be scored."""
        with self._lock, self._connection:
            self._connection.execute(
                "UPDATE studies SET sent_result = ? WHERE number = ?", (case.result, case.number)
            )
            self._connection.execute(
                "UPDATE studies SET state = ?, changed = ?, next_try = NULL, reason = '',"
                " sendings = sendings + 1 WHERE number = ? AND arrived = ?",
                (StudyState.SENT, self._clock(), case.number, case.arrived),
            )

    def failed(self, case: Case, reason: str, *, again: bool) -> float | None:
        """A study could not be scored or sent; returns when it is tried again, if it is.

        The wait doubles from ten seconds to an hour.
        """
        now = self._clock()
        with self._lock, self._connection:
            current = self._case(case.number)
            if current.slices != case.slices or current.arrived != case.arrived:
                self._set(case.number, StudyState.RECEIVED, now, None, "")
                return now
            tries = max(case.scorings if not case.result else case.sendings + 1, 1)
            wait = min(_FIRST_WAIT * 2 ** min(tries - 1, 16), _LONGEST_WAIT)
            next_try = now + wait if again else None
            self._set(case.number, StudyState.FAILED, now, next_try, reason)
            if case.result:
                self._connection.execute(
                    "UPDATE studies SET sendings = sendings + 1 WHERE number = ?", (case.number,)
                )
            return next_try

    def retry_now(self) -> None:
        """Let what waits for its next try wait no longer."""
        with self._lock, self._connection:
            self._connection.execute(
                "UPDATE studies SET next_try = ? WHERE next_try IS NOT NULL", (self._clock(),)
            )

    def refuse(self, number: int, reason: str) -> None:
        """A study is not to be scored."""
        with self._lock, self._connection:
            self._set(number, StudyState.FAILED, self._clock(), None, reason)

    def finished_before(self, moment: float) -> list[Case]:
        """Studies that were sent, or failed for good, before a moment, and whose files are still there."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT number FROM studies WHERE kept AND changed < ?"
                " AND (state = ? OR state = ? AND next_try IS NULL)",
                (moment, StudyState.SENT, StudyState.FAILED),
            ).fetchall()
            return [self._case(row[0]) for row in rows]

    def files_deleted(self, case: Case) -> None:
        """The files of a study are gone."""
        with self._lock, self._connection:
            self._connection.execute("UPDATE studies SET kept = 0 WHERE number = ?", (case.number,))

    def bytes_kept(self) -> int:
        """How much the images take that are still there."""
        with self._lock:
            return int(
                self._one(
                    "SELECT coalesce(sum(bytes), 0) FROM images JOIN studies ON study = number WHERE kept"
                )[0]
            )

    def find(self, study: str) -> Case | None:
        """The case of a study, if it is known."""
        with self._lock:
            row = self._one("SELECT number FROM studies WHERE uid = ?", study)
            return None if row is None else self._case(row[0])

    def cases(self) -> list[Case]:
        """All of them, by number."""
        with self._lock:
            rows = self._connection.execute("SELECT number FROM studies ORDER BY number").fetchall()
            return [self._case(row[0]) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many studies are in each state."""
        with self._lock:
            found = dict(
                self._connection.execute("SELECT state, count(*) FROM studies GROUP BY state").fetchall()
            )
        return {str(state): found.get(str(state), 0) for state in StudyState}

    def _set(self, number: int, state: StudyState, now: float, next_try: float | None, reason: str) -> None:
        self._connection.execute(
            "UPDATE studies SET state = ?, changed = ?, next_try = ?, reason = ? WHERE number = ?",
            (state, now, next_try, reason, number),
        )

    def _one(self, query: str, *values: Any) -> Any:
        return self._connection.execute(query, values).fetchone()

    def _case(self, number: int) -> Case:
        names = (
            "number, uid, state, slices, arrived, changed, scorings, sendings, next_try, reason, result,"
            " sent_result, positive"
        )
        row = list(self._one(f"SELECT {names} FROM studies WHERE number = ?", number))  # noqa: S608 - own names
        row[2] = StudyState(row[2])
        row[-1] = None if row[-1] is None else bool(row[-1])
        return Case(*row)
