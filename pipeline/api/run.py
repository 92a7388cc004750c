"""A run directory from Python: the steps of the command line as methods."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.extensions import unknown
from haemo.features.layouts import Index
from haemo.pipeline.api.features import Features, features_of
from haemo.pipeline.api.options import names_of, paths_of, refuse_unknown
from haemo.pipeline.api.own_model import add_model
from haemo.pipeline.api.results import ComparedModels, Trained
from haemo.pipeline.api.training import train
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.extraction.extract import ExtractionReport
    from haemo.features.manifest import Manifest
    from haemo.features.reading.unit import Unit
    from haemo.pipeline.explaining.explanation import Explained
    from haemo.pipeline.packing.packing import Packed
    from haemo.pipeline.predicting.slice_scores import SliceScores
    from haemo.pipeline.report import Report

__all__ = ["Run"]


class Run:
    """One run: data, features, split and models under fixed names in a folder.

    It is the run of the command line: what ``haemo features --run runs/first`` made is here, and what is made
    here, the commands find.

    Parameters
    ----------
    path : str or Path
        The run directory. The first step that writes to it makes it.
    progress : Progress
        Shows how far each step has come; silent by default.

    Examples
    --------
    >>> run = Run("runs/first")
    >>> run.index("path/to/slices")
    >>> run.extract(layer="pool5")
    >>> run.train("svm")
    """

    def __init__(self, path: str | Path, *, progress: Progress = silent):
        self.path = Path(path)
        self.progress = progress
        self._run = RunDirectory(self.path)

    def __repr__(self) -> str:
        made = [("manifest", self._run.manifest_path), ("features", self._run.store_path)]
        there = [name for name, path in made if path.exists()] + self._run.trained()
        return f"Run({str(self.path)!r}: {', '.join(there) or 'empty'})"

    @property
    def manifest(self) -> "Manifest":
        """The slices of the run."""
        return self._run.manifest()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of ``y``: of two, the second is the positive one."""
        from haemo.pipeline.splitting.split import classes_of

        return classes_of(self._run, self.manifest)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that have predictions."""
        return tuple(self._run.trained())

    def index(self, data: str | Path, **options: Any) -> Index:
        """Find slices, labels and patients in `data` and write manifest.csv, as ``haemo index``.

        Parameters
        ----------
        data : str or Path
        **options
            Those of `haemo.index`.
        """
        return index_run(data, self._run, **{"progress": self.progress, **options})

    def extract(
        self,
        *,
        name: str = "default",
        recipe: str | None = None,
        rotations: str | None = None,
        workers: int | None = None,
        new: bool = False,
        **settings: Any,
    ) -> "ExtractionReport":
        """Embed the slices that are not embedded yet, into features.h5, as ``haemo features``.

        Parameters
        ----------
        name : str
            A set of features with a name of its own, beside the one without.
        recipe : {'paper', 'best', 'builtin'}, optional
            A named set of ``crop``, ``upright``, ``mirror``, ``layer``, ``windows`` and ``weights``; none of
            them may say otherwise.
        rotations : {'none', 'paper'}, optional
        workers : int, optional
            Threads that decode.
        new : bool
            Replace features that were made in another way.
        **settings
            ``layer``, ``crop``, ``upright``, ``mirror``, ``window``, ``windows``, ``weights``, ``seed``,
            ``precision``, ``device``, ``dtype``, ``network``. Those left out are as the run's features were
            made, or as the command has them.

        Returns
        -------
        ExtractionReport
            Counts of slices ``cached`` and ``computed``, and the ``failures``, each with its reason.
        """
        from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features, settings_so_far
        from haemo.pipeline.preparing.recipes import kept_beside, options_of, still_meant

        refuse_unknown(settings, names_of(ExtractionSettings))
        run = self._run.on(name)
        run.refuse_set_name()
        if "weights" in settings:
            settings["weights"] = str(settings["weights"])
        if recipe:
            settings |= options_of(recipe, settings.get("network", "alexnet"), settings)
        kept = {} if new else kept_beside(recipe, settings_so_far(run))
        chosen = {**still_meant(kept, settings), **settings}
        before = chosen.pop("rotations", "none")
        return make_features(
            run,
            ExtractionSettings(**chosen),
            rotations=rotations or before,
            workers=workers,
            new=new,
            progress=self.progress,
        )

    def features(self, part: str = "train", name: str = "default") -> Features:
        """Embeddings, classes and patients of the training or the test side.

        The split is the run's. Where there is none yet it is drawn, by whole patients, and kept: every
        model of the run is then trained and tested on it.

        Parameters
        ----------
        part : {'train', 'test'}
        name : str
            The set of features.

        Returns
        -------
        Features
            Unpacks as ``X`` (n, d) float32, ``y`` (n,) int and ``groups`` (n,) str.

        Raises
        ------
        MissingStep
            If the run has not been indexed, or has no features.
        TooFewData
            If there are too few patients of a class to split.
        """
        return features_of(self._run.on(name), part)

    def train(self, name: str, **options: Any) -> Trained:
        """Train a head or a network, predict the test slices once, and keep it in the run.

        Parameters
        ----------
        name : str
            ``svm``, ``softmax``, ``mlp``; ``cnn``, ``finetune``, ``lenet``, ``tinyvgg``.
        **options
            Those of the command of that name, as Python has them. Heads: ``grid`` (dict of lists),
            ``kernel``, ``metric``, ``class_weight``, ``calibration``, ``threshold``, ``normalise``, ``pca``,
            ``nystroem``, ``rotations``, ``context``, ``smooth``, ``features`` (names of sets), ``called``
            (its name in the run), ``folds``, ``jobs``, ``memory`` (bytes). Networks: ``epochs``,
            ``learning_rate``, ``window``, ``crop``, ``weights`` and so on. Both: ``seed``,
            ``train_fraction``, ``protocol``, ``new_split``, ``device``.

        Returns
        -------
        Trained
            With the figures on test slices, and on training slices held out.

        Raises
        ------
        BadSettings
            If there is no such model, or an option is not one of its.
        MissingStep
            If a step before it is missing.
        """
        return train(self._run, name, options, self.progress)

    def add_model(
        self,
        name: str,
        probability: Any,
        out_of_fold: Any = None,
        *,
        threshold: float = 0.5,
    ) -> Path:
        """Put the answers of a model of your own beside those of the run, for `compare` and `report`.

        Parameters
        ----------
        name : str
            Letters, digits, ``-`` and ``_``; not that of a model of haemo's.
        probability : array-like of shape (n_test,), or (n_test, n_classes) for more than two classes
            Of the positive class, in 0..1, in the order of ``features("test")``.
        out_of_fold : array-like of shape (n_train,) or (n_train, n_classes), optional
            The same for ``features("train")``, each row by a model that did not learn from its patient.
        threshold : float in 0..1
            The positive class is predicted from here on. Two classes only; of more, the most probable is.

        Returns
        -------
        Path
            The predictions.csv that was written.

        Raises
        ------
        BadSettings
            If the name is taken or cannot be that of a folder.
        BadDataset
            If shapes or lengths do not fit, or a probability is none.
        """
        return add_model(self._run, name, probability, out_of_fold, threshold)

    def compare(
        self,
        part: str = "test",
        *,
        by: str = "slice",
        how: str = "max",
        threshold: float | None = None,
        resamples: int = 2000,
        seed: int = 0,
        level: float = 0.95,
    ) -> ComparedModels:
        """Put every model of the run in one table and test their differences, as ``haemo compare``.

        Parameters
        ----------
        part : {'test', 'cv'}
            Test slices, or training slices as predicted out of fold.
        by : {'slice', 'study', 'patient'}
            What is counted.
        how : {'max', 'mean-top', 'noisy-or'}
            How slices make a study or patient.
        threshold : float in 0..1, optional
            By default as each model was trained.
        resamples, seed, level
            Of the intervals, which come from patients left out in turn, in at most so many groups.

        Raises
        ------
        MissingStep
            If no model has been trained.
        """
        from haemo.pipeline.evaluation.comparison import compare
        from haemo.pipeline.evaluation.intervals import Resampling

        found = compare(
            self._run,
            part=part,
            by=by,
            how=how,
            threshold=threshold,
            resampling=Resampling(resamples, seed, level),
            progress=self.progress,
        )
        return ComparedModels.of_comparison(found)

    def predict(
        self,
        name: str,
        paths: str | Path | Sequence[str | Path],
        *,
        threshold: float | None = None,
        series: str | None = None,
        unit: "Unit | None" = None,
        device: str = "auto",
    ) -> "SliceScores":
        """What a trained model says of new slices, as ``haemo predict``.

        Parameters
        ----------
        name : str
            Of the head or network.
        paths : path, or sequence of paths
            Files, and folders, which are searched to any depth.
        threshold : float in 0..1, optional
            In place of the model's own.
        series : str, optional
            Which series of each DICOM study in a folder to take: ``all``, or a regular expression.
        unit : {'hu', 'hu+1024', 'gray'}, optional
            What the numbers are in files that do not say it; by default as ``index`` was told, if it was.
        device : {'auto', 'cpu', 'cuda'}

        Returns
        -------
        SliceScores
            ``scores``, ``probabilities``, ``predicted``, ``outside`` (why not to rely on one) and
            ``failures``; ``rows()`` and ``study_rows()`` give dictionaries, as for pandas.DataFrame.
        """
        from haemo.pipeline.predicting.prediction import predict

        return predict(
            self._run,
            name,
            paths_of(paths),
            threshold=threshold,
            device=device,
            series=series,
            unit=unit,
            progress=self.progress,
        )

    def explain(
        self,
        name: str,
        paths: str | Path | Sequence[str | Path],
        *,
        out: str | Path | None = None,
        method: str | None = None,
        outline: str = "blood",
        names: bool = False,
        device: str = "auto",
    ) -> "list[Explained]":
        """Pictures of what on slices speaks for a bleed (orange) and against it (blue), as ``haemo explain``.

        Parameters
        ----------
        name : str
            Of the head or network.
        paths : path, or sequence of paths
        out : str or Path, optional
            Folder for pictures and outlines; by default ``RUN/explain/NAME``. Earlier ones give way.
        method : str, optional
            ``contrast``, ``hirescam``, ``gradcam``, ``gradcam++`` or ``occlusion``.
        outline : {'blood', 'evidence'}
            Outlines of blood, by the run's segmenter or the built-in one, or of what is hot in the map.
        names : bool
            Call pictures, and slices in the outlines, by their files, not only by their number.
        device : {'auto', 'cpu', 'cuda'}

        Returns
        -------
        list of Explained
            One a slice, in the order of the scores; each shows itself in a notebook.
        """
        from haemo.pipeline.explaining.explanation import explain_slices
        from haemo.pipeline.predicting.blended_model import load_model
        from haemo.pipeline.predicting.prediction import score_slices
        from haemo.pipeline.segmenting.segmenterfolder import outliner

        if outline not in ("blood", "evidence"):
            raise unknown("outline", outline, ("blood", "evidence"))
        model = load_model(self._run, name, device, self.progress)
        result = score_slices(model, paths_of(paths), None, self.progress)
        folder = self.path / "explain" / name if out is None else Path(out)
        return explain_slices(
            model,
            result,
            folder,
            chosen=range(len(result)),
            method=method,
            segmenter=outliner(self._run) if outline == "blood" else None,
            names=names,
            progress=self.progress,
        )

    def pack(self, name: str, file: str | Path) -> "Packed":
        """Pack a model into one file that needs no run and names no patient, as ``haemo pack``.

        Raises
        ------
        BadSettings, MissingStep
            If there is no such model, it is not trained, or it cannot be packed.
        """
        from haemo.pipeline.packing.packing import pack

        return pack(self._run, name, Path(file), progress=self.progress)

    def report(self, *, anonymous: bool = True) -> "Report":
        """Write report.html, the model card and the CLAIM table, as ``haemo report``.

        Gives where they lie (``page``, ``card``, ``checklist``, ``figures``), and the ``claim`` in a
        sentence. If `anonymous`, slices and patients have codes, which ``haemo names`` explains.
        """
        from haemo.pipeline.report import write_report

        return write_report(self._run, anonymous=anonymous, progress=self.progress)
