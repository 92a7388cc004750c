"""What a person says of slices, blind to labels and models: RUN/readings/NAME/, a row a slice."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadDataset, BadSettings, MissingStep, RunLocked, TooFewData
from haemo.features.manifest import ManifestRow
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory, read_json
from haemo.pipeline.run.predictions import Predictions
from haemo.tables import Records, write_table

__all__ = ["LEVELS", "Reading", "readers"]

LEVELS = (
    "surely no bleed",
    "probably no bleed",
    "rather no bleed",
    "rather a bleed",
    "probably a bleed",
    "surely a bleed",
)
"""What a reader can say. An even number of steps, so that each answer is on one side."""

_FOLDER = "readings"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_UNCALIBRATED = "a reader's six steps of certainty are no probabilities"
_COLUMNS = ("slice_id", "answer", "seconds", "answered")
_LONGEST_WAIT_SECONDS = 10.0
_BETWEEN_TRIES_SECONDS = 0.02


def readers(run: RunDirectory) -> list[str]:
    """Names of those who have begun a reading."""
    return sorted(path.parent.name for path in run.path.glob(f"{_FOLDER}/*/reading.json"))


@dataclass(frozen=True)
class Reading:
    """One reader's sample of slices, in an order of the reader's own.

    Attributes
    ----------
    folder : Path
    reader : str
    classes : tuple of str
        No bleed, bleed.
    slices : tuple of str
        Slice ids.
    """

    folder: Path
    reader: str
    classes: tuple[str, str]
    slices: tuple[str, ...]

    @classmethod
    def begin(
        cls,
        run: RunDirectory,
        reader: str,
        tested: Sequence[ManifestRow],
        classes: Sequence[str],
        *,
        cases: int,
        seed: int = 0,
    ) -> "Reading":
        """Draw a sample, the same for every reader of one seed, and write it.

        Raises
        ------
        BadSettings
            If the name is none that a folder can have, or is taken; or there are more than two classes.
        TooFewData
            If there are fewer test slices than cases.
        """
        if not _NAME.fullmatch(reader):
            raise BadSettings(
                f"{reader!r} is no name for a reading: letters, digits, and _ . - after the first, 40 at most"
            )
        if len(classes) != 2:
            raise BadSettings(f"a reading is of two classes, and {run} has {', '.join(classes)}")
        if not 1 <= cases <= len(tested):
            raise TooFewData(f"{run} has {len(tested)} test slices; {cases} cases cannot be drawn of them")
        folder = run.path / _FOLDER / reader
        if folder.exists():
            raise BadSettings(
                f"{reader} has begun a reading of {run} already; go on with it, or take another name"
            )
        names = sorted(row.slice_id for row in tested)
        drawn = np.random.default_rng(seed).choice(len(names), cases, replace=False)
        own = int.from_bytes(hashlib.sha256(reader.encode()).digest()[:8], "little")
        order = np.random.default_rng([seed, own]).permutation(drawn)
        facts = {
            "schema": 1,
            "reader": reader,
            "seed": seed,
            "classes": list(classes),
            "slices": [names[place] for place in order.tolist()],
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # by another server, since
            raise BadSettings(f"{reader} has begun a reading of {run} already; go on with it") from None
        write_text(folder / "reading.json", json.dumps(facts, indent=1) + "\n")
        return cls.open(run, reader)

    @classmethod
    def open(cls, run: RunDirectory, reader: str) -> "Reading":
        """A reading that has begun.

        Raises
        ------
        MissingStep
            If there is none of that name.
        BadDataset
            If its file is damaged.
        """
        folder = run.path / _FOLDER / reader
        if not _NAME.fullmatch(reader) or not (folder / "reading.json").is_file():
            known = ", ".join(readers(run)) or "nobody"
            raise MissingStep(f"{reader!r} has read nothing of {run}; {known} has: haemo serve --run {run}")
        facts = read_json(folder / "reading.json")
        try:
            normal, bleed = facts["classes"]
            return cls(folder, reader, (normal, bleed), tuple(facts["slices"]))
        except (KeyError, ValueError, TypeError) as error:
            raise BadDataset(
                f"{folder / 'reading.json'} is damaged ({error}); begin another reading"
            ) from error

    def answers(self) -> list[dict[str, str]]:
        """What was answered so far, in order: slice_id, answer (1 to 6), seconds, answered."""
        path = self.folder / "answers.csv"
        return list(Records(path).require(_COLUMNS)) if path.exists() else []

    def answer(self, case: int, level: int, seconds: float, rows: Sequence[ManifestRow]) -> int:
        """Keep an answer, and write predictions.csv anew; both whole or not at all.

        Parameters
        ----------
        case : int
            Which of the slices, from 0: the first that has no answer yet.
        level : int
            1 to 6, of `LEVELS`.
        seconds : float
            That it took.
        rows : sequence of ManifestRow
            Of the run.

        Returns
        -------
        int
            How many are answered now.

        Raises
        ------
        BadSettings
            If another slice is to be answered; an answer once given stands.
        RunLocked
            If another process has been writing an answer of this reader for ten seconds.
        """
        if not 1 <= level <= len(LEVELS) or not 0 <= seconds < 1e6:
            raise BadSettings(f"an answer is 1 to {len(LEVELS)}, and takes some seconds")
        with _turn(self.folder):
            return self._answered(case, level, seconds, rows)

    def _answered(self, case: int, level: int, seconds: float, rows: Sequence[ManifestRow]) -> int:
        given = self.answers()
        if case != len(given) or case >= len(self.slices):
            raise BadSettings(
                f"case {len(given) + 1} is to be answered, not case {case + 1}; load the page again"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = dict(zip(_COLUMNS, (self.slices[case], level, round(seconds, 2), now), strict=True))
        given = [*given, {name: str(value) for name, value in row.items()}]
        write_table(self.folder / "answers.csv", given)
        self.predictions(rows).write(self.folder / "predictions.csv")
        return len(given)

    def predictions(self, rows: Sequence[ManifestRow]) -> Predictions:
        """The answers as those of a model: steps of certainty at even distances in 0..1.

        Raises
        ------
        MissingStep
            If there is no answer yet.
        """
        level_of = {one["slice_id"]: int(one["answer"]) for one in self.answers()}
        read = [row for row in rows if row.slice_id in level_of]
        if not read:
            raise MissingStep(
                f"{self.reader} has answered nothing yet; {len(self.slices)} slices are to be read"
            )
        levels = np.array([level_of[row.slice_id] for row in read])
        chances = (2 * levels - 1) / (2 * len(LEVELS))
        return Predictions.of_rows(
            read,
            part=np.full(len(read), "test"),
            fold=np.full(len(read), -1),
            scores=levels.astype(float),
            probabilities=chances,
            predicted=np.array(self.classes)[(chances > 0.5).astype(int)],
            classes=self.classes,
            uncalibrated=_UNCALIBRATED,
        )


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait for the right to add an answer: another server of the run may be adding one."""
    end = time.monotonic() + _LONGEST_WAIT_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(claim(folder, "answer"))
                break
            except RunLocked:
                if time.monotonic() > end:
                    raise
                time.sleep(_BETWEEN_TRIES_SECONDS)
        yield
