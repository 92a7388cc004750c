from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haemo.errors import BadDataset
from haemo.features.manifest import Manifest, ManifestRow, rows_as_bytes

# What CSV can carry: any text but surrogates and NUL, line ends inside a field included.
text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=12)
rows = st.builds(
    ManifestRow,
    slice_id=text,
    path=st.from_regex(r"/[a-zäöü ,\"']{1,12}\.png", fullmatch=True).map(Path),
    label=st.sampled_from(["", "normal", "haemorrhage", 'with, comma and "quote"']),
    patient=text,
    study=text,
    position=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    part=st.sampled_from(["", "train", "test"]),
)


@given(st.lists(rows, max_size=8, unique_by=lambda row: row.slice_id))
def test_a_manifest_reads_back_as_it_was_written(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    manifest = Manifest(entries)
    manifest.write(path)
    assert Manifest.read(path) == manifest


def row(slice_id="a", **changes):
    values = {"path": Path("/d/a.png"), "label": "normal", "patient": "p", "study": "p", **changes}
    return ManifestRow(slice_id=slice_id, **values)


def test_what_many_rows_say_is_kept_once(tmp_path):
    Manifest([row("a"), row("b")]).write(tmp_path / "manifest.csv")
    first, second = Manifest.read(tmp_path / "manifest.csv")
    assert all(getattr(first, name) is getattr(second, name) for name in ("label", "patient", "study"))


def test_a_repeated_id_is_named():
    with pytest.raises(BadDataset, match="'a' stands more than once"):
        Manifest([row(), row()])


@pytest.mark.parametrize("changes", [{"patient": ""}, {"part": "validation"}, {"slice_id": ""}])
def test_a_row_that_breaks_the_contract_is_refused(changes):
    with pytest.raises(BadDataset):
        Manifest([row(**changes)])


def test_classes_are_sorted_and_leave_out_unlabelled_slices():
    manifest = Manifest([row("a"), row("b", label=""), row("c", label="bleed")])
    assert manifest.classes == ("bleed", "normal")
    assert [entry.slice_id for entry in manifest.labelled] == ["a", "c"]


def test_patients_are_known_when_one_differs_from_its_slice():
    assert not Manifest([row("a", patient="a"), row("b", patient="b")]).patients_known
    assert Manifest([row("a", patient="a"), row("b", patient="a")]).patients_known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("slice_id,path\na,b\n", "no column 'label'"),
        ("slice_id,path,label,patient,study,position\na,b,c\n", "line 2: wrong number of fields"),
        ("slice_id,path,label,patient,study,position\na,b,c,d,e,high\n", "position 'high' is not a number"),
        ("slice_id,path,label,patient,study,position\na,b,c,d,e,inf\n", "position 'inf' is not a number"),
    ],
)
def test_a_broken_file_names_the_line(tmp_path, content, message):
    path = tmp_path / "manifest.csv"
    path.write_text(content)
    with pytest.raises(BadDataset, match=message):
        Manifest.read(path)


def test_a_file_name_that_is_not_utf8_survives(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest([row(path=Path(b"/d/caf\xe9.png".decode("utf-8", "surrogateescape")))])
    manifest.write(path)
    assert Manifest.read(path) == manifest


def test_rows_are_hashed_byte_for_byte_as_they_are_on_the_disk():
    odd = b"caf\xe9.png".decode(errors="surrogateescape")
    rows = [row("größe.png", label="bleed", patient="p1", study="s1"), row(odd, patient=odd)]
    expected = "größe.png\0bleed\0p1\0s1\n".encode() + b"caf\xe9.png\0normal\0caf\xe9.png\0p\n"
    assert rows_as_bytes(rows) == expected
    assert rows_as_bytes([]) == b""
