"""Archives are read as the folders they hold; those that would do harm are refused."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from cohorts import class_folders, dicom_tree, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadDataset
from haemo.features.layouts import index_dataset
from haemo.features.layouts.archive import Limits, unpack
from haemo.pipeline.cli import main
from haemo.pipeline.predicting.prediction import find_slices

KINDS = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}


def packed(folder: Path, kind: str = "zip") -> Path:
    return Path(shutil.make_archive(str(folder), KINDS[kind], folder))


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tar_of(path: Path, entries: list[tarfile.TarInfo], content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for entry in entries:
            entry.size = len(content) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(content))
    return path


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_gives_the_manifest_of_its_folder(tmp_path, kind):
    expected = index_dataset(class_folders(tmp_path / "data", patients=4, slices=2))
    index = index_dataset(packed(tmp_path / "data", kind), unpack_to=tmp_path / "into")
    assert index.layout == expected.layout
    assert len(index.manifest) == 8
    for one, other in zip(index.manifest, expected.manifest, strict=True):
        assert (one.slice_id, one.label, one.patient) == (other.slice_id, other.label, other.patient)
        assert one.path.read_bytes() == other.path.read_bytes()


def test_archives_in_a_folder_are_folders_of_it(tmp_path):
    data = class_folders(tmp_path / "data", patients=4, slices=2)
    expected = {(row.slice_id, row.label, row.patient) for row in index_dataset(data).manifest}
    for name in ("haemorrhage", "normal/p001"):
        packed(data / name)
        shutil.rmtree(data / name)
    index = index_dataset(data, unpack_to=tmp_path / "into")
    assert {(row.slice_id, row.label, row.patient) for row in index.manifest} == expected


def test_index_and_predict_take_archives_from_the_command_line(tmp_path, capsys):
    archive = packed(class_folders(tmp_path / "data", patients=4, slices=2), "tar.gz")
    for _ in range(2):
        assert main(["index", str(archive), "--run", str(tmp_path / "run")]) == 0
        assert "8 slices indexed, 0 unusable" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "run" / "unpacked").iterdir()} == {"data"}
    files, failures = find_slices([archive])
    assert len(files) == 8
    assert not failures
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    files, failures = find_slices([tmp_path / "broken.zip"])
    assert not files
    assert "is damaged, cut short or no archive" in failures[0].reason


def test_an_archive_that_changed_is_unpacked_anew(tmp_path):
    first, _ = unpack(zip_of(tmp_path / "a.zip", {"a.png": b"1"}), tmp_path / "into")
    again, _ = unpack(tmp_path / "a.zip", tmp_path / "into")
    second, _ = unpack(zip_of(tmp_path / "a.zip", {"b.png": b"22"}), tmp_path / "into")
    assert first == again != second
    assert below(second) == {"b.png", ".archive"}


BAD_NAMES = ("/etc/a.png", "../a.png", "x/../../a.png", "C:\\a.png", "..\\..\\a.png", "..", "x/..")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leads_out_of_the_archive(tmp_path, name):
    for archive in (
        zip_of(tmp_path / "a.zip", {name: b"bad", "good.png": b"good"}),
        tar_of(tmp_path / "a.tar.gz", [tarfile.TarInfo(name), tarfile.TarInfo("good.png")]),
    ):
        folder, failures = unpack(archive, tmp_path / "into" / archive.suffix)
        assert below(folder) == {"good.png", ".archive"}
        assert [failure.reason for failure in failures] == ["its name leads out of the archive"]
    assert below(tmp_path) - {"a.zip", "a.tar.gz"} == {
        f"into/.{kind}/a/{name}" for kind in ("zip", "gz") for name in ("good.png", ".archive")
    }


names = st.text(st.sampled_from("ab./\\:~ é"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_whatever_the_names_are_files_lie_inside_or_are_named(tmp_path_factory, given_names):
    root = tmp_path_factory.mktemp("names")
    kept = [name for name in given_names if not name.endswith(("/", "\\"))]
    archive = zip_of(root / "a.zip", dict.fromkeys(kept, b"x"))
    try:
        folder, failures = unpack(archive, root / "into")
    except BadDataset:
        folder, failures = root / "into" / "a", []
    inside = below(folder) - {".archive"} if folder.exists() else set()
    assert below(root) - {"a.zip", "into/a/.archive"} == {f"into/a/{name}" for name in inside}
    if folder.exists():
        assert len(inside) + len(failures) == len(kept)


def test_links_and_devices_are_not_made(tmp_path):
    entries = [tarfile.TarInfo(name) for name in ("good.png", "link", "hard", "pipe")]
    entries[1].type, entries[1].linkname = tarfile.SYMTYPE, "/etc/passwd"
    entries[2].type, entries[2].linkname = tarfile.LNKTYPE, "../../outside"
    entries[3].type = tarfile.FIFOTYPE
    folder, failures = unpack(tar_of(tmp_path / "a.tar.gz", entries), tmp_path / "into")
    assert below(folder) == {"good.png", ".archive"}
    assert [failure.reason for failure in failures] == ["a link or device in an archive"] * 3
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.png", b"good")
    folder, failures = unpack(tmp_path / "b.zip", tmp_path / "into")
    assert below(folder) == {"good.png", ".archive"}
    assert failures[0].path == str(tmp_path / "b.zip" / "link")


BOMBS = {"a.zip": lambda path: zip_of(path, {"a.png": bytes(1 << 24), "b.png": bytes(1 << 24)})}
BOMBS["a.tar.gz"] = lambda path: tar_of(path, [tarfile.TarInfo("a"), tarfile.TarInfo("b")], bytes(1 << 24))


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(free=1 << 20), "unpacks to more than 200 times its size"),
        (Limits(bytes_a_file=1 << 20), "a.*unpacks to more than 1,048,576 bytes"),
        (Limits(bytes=1 << 20), "unpacks to more than 1,048,576 bytes"),
        (Limits(files=1), "holds more than 1 files"),
    ],
)
def test_bombs_are_refused_and_leave_nothing_behind(tmp_path, name, limits, reason):
    with pytest.raises(BadDataset, match=reason):
        unpack(BOMBS[name](tmp_path / name), tmp_path / "into", limits)
    assert not list((tmp_path / "into").iterdir())


def test_what_a_zip_declares_is_not_believed(tmp_path):
    archive = BOMBS["a.zip"](tmp_path / "a.zip")
    content = archive.read_bytes().replace((1 << 24).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(BadDataset, match=r"holds no file that can be unpacked.*damaged"):
        unpack(archive, tmp_path / "into", Limits(free=1 << 20))


def test_long_comments_of_a_tar_are_not_taken_into_memory(tmp_path):
    entry = tarfile.TarInfo("a.png")
    entry.pax_headers = {"comment": "x" * (1 << 25)}
    archive = tar_of(tmp_path / "a.tar.gz", [entry])
    with pytest.raises(BadDataset, match="a name or comment in it takes"):
        unpack(archive, tmp_path / "into")


def test_a_damaged_archive_gives_what_can_be_read_of_it(tmp_path):
    data = dicom_tree(tmp_path / "data", patients=2, slices=6)
    archive = packed(data, "tar.gz")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) * 2 // 3])
    index = index_dataset(archive, unpack_to=tmp_path / "into")
    assert 0 < len(index.manifest) < 12
    assert "is damaged or cut short after" in index.failures[0].reason
    # The same is said when it is not unpacked again.
    assert index_dataset(archive, unpack_to=tmp_path / "into").failures == index.failures
    archive = packed(data, "zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"IM_1") + 2000] ^= 1
    archive.write_bytes(content)
    folder, failures = unpack(archive, tmp_path / "zip")
    assert len(below(folder)) == 12
    assert len(failures) == 1
    assert "is damaged" in failures[0].reason


def test_other_things_that_go_wrong_are_said(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.zip").write_bytes(b"no archive")
    (data / "inner.7z").write_bytes(b"7z")
    with pytest.raises(BadDataset, match="holds no PNG"):
        index_dataset(data, unpack_to=tmp_path / "into")
    dicom_tree(data / "tree")
    index = index_dataset(data, unpack_to=tmp_path / "into")
    assert {Path(failure.path).name for failure in index.failures} == {"a.zip", "inner.7z"}
    with pytest.raises(BadDataset, match="holds no file that can be unpacked"):
        index_dataset(zip_of(tmp_path / "empty.zip", {}), unpack_to=tmp_path / "into")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadDataset, match=r"is a file, not a folder or an archive .*zip"):
        index_dataset(tmp_path / "notes.txt")
    (tmp_path / "taken").write_text("a file where a folder must be")
    with pytest.raises(BadDataset, match="cannot be unpacked into"):
        index_dataset(zip_of(tmp_path / "b.zip", {"a.png": b"1"}), unpack_to=tmp_path / "taken")


def test_tables_in_an_archive_name_its_slices(tmp_path):
    data = dicom_tree(tmp_path / "data")
    rows = [
        ("path", "label"),
        *[(f"folder{n}/IM_{k}", "bleed" if n else "normal") for n in (0, 1) for k in range(3)],
    ]
    write_csv(data / "labels.csv", rows)
    index = index_dataset(packed(data), unpack_to=tmp_path / "into")
    assert [row.label for row in index.manifest] == ["normal"] * 3 + ["bleed"] * 3
