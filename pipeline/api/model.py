"""A model that was handed over, from Python: one file in place of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings
from haemo.extensions import unknown
from haemo.pipeline.api.options import names_of, paths_of, refuse_unknown
from haemo.pipeline.api.results import ComparedModels
from haemo.pipeline.packing.modelfile import is_exported, open_model
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.reading.unit import Unit
    from haemo.pipeline.explaining.explanation import Explained
    from haemo.pipeline.predicting.slice_scores import SliceScores

__all__ = ["Model"]


class Model:
    """A trained model without its run: what ``haemo pack`` or ``haemo export`` wrote, or the built-in one.

    Parameters
    ----------
    file : str or Path
        A packed model (``svm.haemo``), an exported one (``svm.onnx``), a segmenter's model.safetensors, or
        ``builtin``, the segmenter that comes with haemo.
    trusted : sequence of str
        Estimators of others that its head may be made of, as ``--trust``.
    device : {'auto', 'cpu', 'cuda'}
    progress : Progress
        Shows how far each step has come; silent by default.

    Raises
    ------
    MissingStep
        If there is no such file.
    BadDataset
        If it is damaged, or holds types that are not trusted; nothing of it is run then.
    FingerprintMismatch
        If this version of haemo makes planes or embeddings in another way.

    Examples
    --------
    >>> model = Model("svm.haemo")
    >>> model.predict("path/to/new/slices").study_rows()
    """

    def __init__(
        self,
        file: str | Path,
        *,
        trusted: Sequence[str] = (),
        device: str = "auto",
        progress: Progress = silent,
    ):
        self.file, self.trusted, self.device, self.progress = str(file), tuple(trusted), device, progress
        self._model: Any = open_model(self.file, device, self.trusted, progress)

    def __repr__(self) -> str:
        return f"Model({self.file!r}: {', '.join(self.classes)})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; of two the second is the positive one."""
        return tuple(self._model.classes)

    @property
    def threshold(self) -> float:
        """Probability from which a slice is positive; of more than two classes the most probable is said."""
        own = self._model.facts["threshold"] if self._outlines else self._model.head.threshold
        return float(own)

    @property
    def _outlines(self) -> bool:
        from haemo.pipeline.segmenting.segmenter import Segmenter

        return isinstance(self._model, Segmenter)

    def predict(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        threshold: float | None = None,
        series: str | None = None,
        unit: "Unit | None" = None,
    ) -> "SliceScores":
        """What it says of new slices, as ``haemo predict --model``; arguments and answer of `Run.predict`.

        Raises
        ------
        TooFewData
            If not one slice could be scored.
        """
        if self._outlines:
            from haemo.pipeline.segmenting.outlining import outline_slices

            options: dict[str, Any] = {"threshold": threshold, "series": series, "unit": unit}
            return outline_slices(self._model, paths_of(paths), progress=self.progress, **options).scores
        from haemo.pipeline.predicting.prediction import score_slices

        return score_slices(self._model, paths_of(paths), threshold, self.progress, series=series, unit=unit)

    def explain(
        self,
        paths: str | Path | Sequence[str | Path],
        out: str | Path,
        *,
        method: str | None = None,
        outline: str = "blood",
        names: bool = False,
    ) -> "list[Explained]":
        """Pictures of what on slices speaks for a bleed and against it, as ``haemo explain --model``.

        Parameters
        ----------
        paths : path, or sequence of paths
        out : str or Path
            Folder for pictures and outlines. Earlier ones give way.
        method, outline, names
            As of `Run.explain`; outlines of blood are those of the built-in segmenter.

        Raises
        ------
        BadSettings
            If it is a segmenter or an exported model, which have no map of evidence.
        TooFewData
            If not one slice could be scored.
        """
        from haemo.pipeline.explaining.explanation import explain_slices
        from haemo.pipeline.segmenting.segmenter import builtin_segmenter

        if outline not in ("blood", "evidence"):
            raise unknown("outline", outline, ("blood", "evidence"))
        if self._outlines or is_exported(self.file):
            raise BadSettings(f"{self.file} has no map of evidence; a packed head or network has")
        result = self.predict(paths)
        return explain_slices(
            self._model,
            result,
            Path(out),
            chosen=range(len(result)),
            method=method,
            segmenter=builtin_segmenter() if outline == "blood" else None,
            names=names,
            progress=self.progress,
        )

    def evaluate(self, data: str | Path, out: str | Path, **options: Any) -> ComparedModels:
        """Judge it, untouched, on labelled slices of elsewhere, as ``haemo evaluate``.

        Parameters
        ----------
        data : str or Path
            A folder in any layout that `haemo.index` reads.
        out : str or Path
            New folder for what is found, or that of an earlier call, which goes on.
        **options
            ``by``, ``how``, ``threshold``, ``prevalence``, ``positive``, ``keep``, and ``index``: other
            options of `haemo.index` by name.

        Raises
        ------
        BadSettings
            If an option is none, or `out` holds something else.
        BadDataset, TooFewData
            If the slices cannot be judged.
        """
        from haemo.pipeline.judging.judgement import judge
        from haemo.pipeline.judging.judgement_documents import write_checklists
        from haemo.pipeline.judging.judgement_page import write_page
        from haemo.pipeline.judging.sides import JudgingSettings

        refuse_unknown(options, names_of(JudgingSettings))
        settings = JudgingSettings(**{"trusted": self.trusted, "device": self.device, **options})
        found = judge([self.file], Path(data), Path(out), settings, self.progress)
        write_page(found, settings.resampling)
        write_checklists(found)
        return ComparedModels.of_comparison(found.comparison)
