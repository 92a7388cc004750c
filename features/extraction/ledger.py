"""What of a manifest is embedded, what is wanted, and what became of each slice."""

from collections.abc import Sequence
from pathlib import Path

from haemo.errors import UnreadableSlice
from haemo.features.extraction.decoding import Decoded
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.address import file_of
from haemo.features.reading.formats import stamp_of
from haemo.features.store.contents import Contents, KnownFile, is_gone
from haemo.features.store.store import FeatureStore

__all__ = ["Ledger"]


class Ledger:
    """Keeps account of an extraction.

    Parameters
    ----------
    manifest : Manifest
    variants : tuple of int
        That are wanted of each slice.

    Attributes
    ----------
    variants : tuple of int
    held : set of (str, int)
        Contents and variants that are stored or on their way.
    files : dict of str to KnownFile
        The slices that could be used, by slice id.
    failures : list of Failure
    gone : set of str
        Ids of those slices that failed because there is no such file any more.
    computed, colour, askew : int
        As in `ExtractionReport`.
    """

    def __init__(self, manifest: Manifest, variants: tuple[int, ...]):
        self._manifest = manifest
        self.variants = variants
        self.held: set[tuple[str, int]] = set()
        self.files: dict[str, KnownFile] = {}
        self.failures: list[Failure] = []
        self.gone: set[str] = set()
        self.computed = 0
        self.colour = 0
        self.askew = 0
        self._new: set[str] = set()

    def missing(self, content: str) -> tuple[int, ...]:
        """Variants that are wanted of these pixels and neither stored nor on their way."""
        return tuple(variant for variant in self.variants if (content, variant) not in self.held)

    def recall(self, sources: Sequence[Path], contents: Contents) -> None:
        """Find the slices that are done, by what the stores hold and which files have not changed."""
        for path in sources:
            with FeatureStore(path) as source:
                self.held.update(source.keys.pairs())
        for row in self._manifest:
            try:
                stamp = stamp_of(row.path)
            except UnreadableSlice:
                continue  # the decoder will say why
            path = str(row.path)
            content = contents.recall(path, *stamp)
            if content and not self.missing(content):
                self.files[row.slice_id] = KnownFile(row.slice_id, path, *stamp, content)

    def waiting(self) -> list[ManifestRow]:
        """Rows of the manifest that are not done, in its order."""
        return [row for row in self._manifest if row.slice_id not in self.files]

    def note(self, row: ManifestRow, result: Decoded | UnreadableSlice) -> KnownFile | None:
        """Note what became of one file; None where it cannot be used."""
        if isinstance(result, UnreadableSlice):
            self.failures.append(Failure(str(row.path), "features", str(result)))
            if is_gone(file_of(row.path)):
                self.gone.add(row.slice_id)
            return None
        known = KnownFile(row.slice_id, str(row.path), result.size, result.mtime_ns, result.content)
        self.files[row.slice_id] = known
        if self.missing(result.content):
            self._new.add(result.content)
        self.computed += result.content in self._new
        self.colour += result.is_colour
        self.askew += result.is_askew
        return known

    def note_all(
        self, files: Sequence[KnownFile], failures: Sequence[Failure], gone: set[str], colour: int, askew: int
    ) -> None:
        """Note what became of slices that were embedded elsewhere, by the attributes of a ledger."""
        self.files.update((known.slice_id, known) for known in files)
        self.failures += failures
        self.gone |= gone
        self.computed += sum(bool(self.missing(known.content)) for known in files)
        self.colour += colour
        self.askew += askew

    def sort_failures(self) -> None:
        """Put the failures into the order of the manifest."""
        places = {str(row.path): place for place, row in enumerate(self._manifest)}
        self.failures.sort(key=lambda failure: places[failure.path])

    def files_in_order(self) -> list[KnownFile]:
        """The usable slices, in the order of the manifest."""
        return [self.files[row.slice_id] for row in self._manifest if row.slice_id in self.files]
