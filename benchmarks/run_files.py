"""Small valid files of a run, and what reads each of them: for `fuzz`, which damages them.

A reader must give what it reads, or say by one of haemo's errors why it does not.
"""

import contextlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from second_reader import keep

# Kind -> the name its file must have, where a reader goes by the name.
NAMES = {
    "labels.csv": "labels.csv",
    "labels.xlsx": "labels.xlsx",
    "manifest.csv": "manifest.csv",
    "split.json": "split.json",
    "run.json": "run.json",
    "settings.json": "settings.json",
    "predictions.csv": "predictions.csv",
    "contents.csv": "contents.csv",
    "failures.csv": "failures.csv",
    "model.skops": "model.skops",
    "safetensors": "model.safetensors",
    "features.h5": "features.h5",
    "NIfTI": "scan.nii",
    "NIfTI.gz": "scan.nii.gz",
    "NRRD": "scan.nrrd",
    "MetaImage": "scan.mha",
    "zip": "data.zip",
}


def run_files() -> dict[str, bytes]:
    """One file of each kind."""
    import nibabel
    from cohorts import class_folders
    from runs import make_run
    from safetensors.numpy import save

    from haemo.features.failures import Failure
    from haemo.pipeline.cli import main

    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", patients=12, slices=2, dimension=8, copies=1)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            assert main(["-q", "svm", "--run", str(run.path), "--C", "1e-3"]) == 0, said.getvalue()
        run.replace_failures("index", [Failure("a.png", "index", "the file is empty")])
        model = run.model_path("svm")
        paths = [run.manifest_path, run.split_path, run.record_path, run.failures_path, run.store_path]
        paths += [model / name for name in ("settings.json", "predictions.csv", "model.skops")]
        files = {path.name: path.read_bytes() for path in paths}
        data = class_folders(Path(folder) / "data", patients=2, slices=1)
        archive = Path(shutil.make_archive(str(Path(folder) / "packed"), "zip", data)).read_bytes()
    voxels = np.arange(12 * 10 * 3, dtype=np.int16).reshape(12, 10, 3) - 100
    scan = nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()
    import gzip

    files["contents.csv"] = _contents()
    files["labels.csv"] = b"path,label,patient\n0.png,bleed,P1\n1.png,normal,P2\n2.png,normal,'=P3\n"
    files["labels.xlsx"] = _workbook()
    files["safetensors"] = save(
        {"features.0.weight": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}
    )
    files |= {"NIfTI": scan, "NIfTI.gz": gzip.compress(scan, mtime=0), "zip": archive}
    files |= {"NRRD": _by_itk("scan.nrrd", voxels), "MetaImage": _by_itk("scan.mha", voxels)}
    return {kind: files[kind] for kind in NAMES}


def _workbook() -> bytes:
    import openpyxl

    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in ("path", "label"), ("0.png", "bleed"), ("1.png", "normal"), ("2.png", "normal"):
        book.active.append(row)
    book.save(stream)
    return stream.getvalue()


def _by_itk(name: str, voxels: np.ndarray) -> bytes:
    from volume_files import save_with_itk

    with tempfile.TemporaryDirectory() as folder:
        return save_with_itk(Path(folder) / name, voxels.transpose(2, 1, 0), packed=True).read_bytes()


def _contents() -> bytes:
    from haemo.features.store.contents import Contents, KnownFile

    with tempfile.TemporaryDirectory() as folder:
        contents = Contents(Path(folder) / "contents.csv")
        contents.append([KnownFile(f"a/{n}.png", f"/data/a/{n}.png", 9, 8, f"{n}" * 64) for n in range(3)])
        return contents.path.read_bytes()


def with_sums(kind: str, data: bytes) -> bytes:
    """A damaged zip or skops file whose members have the right checksums again, as whole as can be."""
    if kind not in ("zip", "model.skops", "labels.xlsx"):
        return data
    whole = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(whole, "w") as target:
            for entry in source.infolist():
                start = entry.header_offset + 30 + len(entry.filename)
                target.writestr(entry.filename, data[start : start + min(entry.compress_size, len(data))])
    # zipfile raises whatever damaged names and sizes lead to.
    except (OSError, ValueError, ArithmeticError, LookupError, NotImplementedError, zipfile.BadZipFile):
        return data
    return whole.getvalue()


def readers() -> dict[str, Callable[[Path], object]]:
    """What reads a file of each kind."""
    from haemo.features.failures import read_failures
    from haemo.features.layouts import index_dataset
    from haemo.features.manifest import Manifest
    from haemo.features.reading.formats import read_header, read_slice, slices_in
    from haemo.features.store.contents import Contents
    from haemo.features.store.store import FeatureStore
    from haemo.features.store.verify import verify_store
    from haemo.models.weights.statefile import read_state
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.run.predictions import Predictions
    from haemo.pipeline.splitting.split import Split
    from haemo.pipeline.trained.headfolder import HeadFolder
    from haemo.pipeline.trained.persistence import check_head, load_head

    def labels(path: Path) -> object:
        from PIL import Image

        for number in range(3):
            Image.new("L", (4, 4)).save(path.parent / f"{number}.png")
        return index_dataset(path.parent)

    def store(path: Path) -> object:
        with FeatureStore(path) as held:
            held.read_rows(np.arange(len(held)))
        return verify_store(path)

    def head(path: Path) -> object:
        check_head(path)
        return load_head(path)

    def settings(path: Path) -> object:
        return HeadFolder(path.parent).facts(), RunDirectory(path.parent.parent).settings(path.parent.name)

    def volume(path: Path) -> object:
        found = [(read_header(one), read_slice(one)) for one in slices_in(path)]
        keep(path, [slice_ for _, slice_ in found])
        return found

    return {
        "labels.csv": labels,
        "labels.xlsx": labels,
        "manifest.csv": Manifest.read,
        "split.json": Split.read,
        "run.json": lambda path: RunDirectory(path.parent).read_record(),
        "settings.json": settings,
        "predictions.csv": Predictions.read,
        "contents.csv": lambda path: list(Contents(path)),
        "failures.csv": read_failures,
        "model.skops": head,
        "safetensors": read_state,
        "features.h5": store,
        "NIfTI": volume,
        "NIfTI.gz": volume,
        "NRRD": volume,
        "MetaImage": volume,
        "zip": lambda path: index_dataset(path, unpack_to=path.parent / "unpacked"),
    }
