import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_disk import as_written

from haemo.features.store.contents import Contents, KnownFile

A, B = "a" * 64, "b" * 64
# What a file name can hold: any character but NUL, and bytes that are not UTF-8. Those that CSV quotes or
# escapes come often.
names = st.lists(
    st.sampled_from(["\n", "\r", "\r\n", ",", '"', "\\", "\\n", "\udce9", "\u2028", " "])
    | st.characters(codec="utf-8", exclude_characters="\0"),
    min_size=1,
    max_size=8,
).map("".join)


def test_a_file_is_known_until_it_changes(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile("s1", "/data/1.png", 10, 123, A)])
    for known in (contents, Contents(contents.path)):
        assert known.recall("/data/1.png", 10, 123) == A
        assert known.recall("/data/1.png", 11, 123) is None
        assert known.recall("/data/1.png", 10, 124) is None
        assert known.recall("/data/2.png", 10, 123) is None
        assert known.content_of("s1") == A
        assert known.content_of("s2") is None


def test_the_last_word_on_a_slice_counts(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile("s1", "/data/1.png", 10, 123, A)])
    contents.append([KnownFile("s1", "/data/1.png", 10, 456, B)])
    assert Contents(contents.path).content_of("s1") == B
    assert len(Contents(contents.path)) == 1


def test_a_torn_line_costs_only_itself(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile(f"s{i}", f"/data/{i}.png", i, i, A) for i in range(3)])
    whole = contents.path.read_bytes()
    for length in range(len(whole)):
        contents.path.write_bytes(whole[:length])
        torn = Contents(contents.path)
        before = len(torn)
        torn.append([KnownFile("s9", "/data/9.png", 9, 9, B)])
        again = Contents(contents.path)
        assert again.content_of("s9") == B
        assert len(again) == before + 1


@pytest.mark.parametrize("block", [7, 1 << 16])
def test_half_a_line_is_told_from_damage_and_dropped_by_the_next_process(tmp_path, monkeypatch, block):
    monkeypatch.setattr("haemo.features.store.contents._BLOCK", block)
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile(f"s{i}", f"/data/{i}.png", i, i, A) for i in range(3)])
    whole = contents.path.read_bytes()
    for length in range(len(whole)):
        contents.path.write_bytes(whole[:length])
        torn = Contents(contents.path)
        assert torn.unreadable == 0
        begun = whole[:length].rpartition(b"\n")[2]
        ended = whole[length : length + 1] == b"\n" and b"\n" in whole[:length]
        assert torn.torn == (begun != b"" and not ended)
        torn.append([KnownFile("s9", "/data/9.png", 9, 9, B)])
        again = Contents(contents.path)
        assert (again.unreadable, again.torn) == (0, False)
    assert contents.path.read_text().startswith("slice_id,")


def test_altered_lines_are_counted(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile(f"s{i}", f"/data/{i}.png", i, i, A) for i in range(3)])
    text = contents.path.read_text()
    contents.path.write_text(text.replace("s0", "x0").replace("s2", "x2"))
    assert (Contents(contents.path).unreadable, len(Contents(contents.path))) == (2, 1)
    contents.path.write_text(text.replace("\n", "\r\n"))
    assert (Contents(contents.path).unreadable, len(Contents(contents.path))) == (4, 0)
    for crafted in (",00000000", f"a,b,{zlib.crc32(b'a,b'):08x}"):
        contents.path.write_text(f"{crafted}\n{text}")
        assert Contents(contents.path).unreadable == 1


def test_no_altered_byte_is_believed(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile(f"s{i}", f"/data/{i}.png", i, i, str(i) * 64) for i in range(3)])
    whole = contents.path.read_bytes()
    truth = set(contents)
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 2
        contents.path.write_bytes(altered)
        assert set(Contents(contents.path)) <= truth


def test_replace_forgets_moves_and_keeps(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile(f"s{i}", f"/data/{i}.png", i, i, str(i) * 64) for i in range(4)])
    contents.replace([KnownFile("new", "/data/2.png", 2, 2, "2" * 64)], forget=["s0"])
    again = Contents(contents.path)
    assert [known.slice_id for known in again] == ["new", "s1", "s3"]
    assert again.recall("/data/2.png", 2, 2) == "2" * 64
    assert again.recall("/data/0.png", 0, 0) is None


def test_replace_leaves_a_file_alone_that_is_right(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    files = [KnownFile("s1", "/data/1.png", 10, 123, A)]
    contents.replace(files)
    before = as_written(contents.path)
    Contents(contents.path).replace(files)
    assert as_written(contents.path) == before


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(names, names), unique_by=(lambda pair: pair[0], lambda pair: pair[1])), st.booleans()
)
def test_any_name_is_remembered(tmp_path_factory, pairs, anew):
    contents = Contents(tmp_path_factory.mktemp("contents") / "contents.csv")
    files = [KnownFile(*pair, 1, 2, A) for pair in pairs]
    if anew:
        contents.replace(files)
    else:
        contents.append(files)
    again = Contents(contents.path)
    assert list(again) == files
    for known in files:
        assert again.content_of(known.slice_id) == again.recall(known.path, 1, 2) == A


@settings(deadline=None, max_examples=100)
@given(
    st.lists(names, min_size=1, max_size=4, unique=True), st.integers(min_value=0), st.integers(min_value=0)
)
def test_a_torn_or_altered_line_of_any_name_costs_only_itself(tmp_path_factory, ids, cut, place):
    contents = Contents(tmp_path_factory.mktemp("contents") / "contents.csv")
    files = [KnownFile(name, f"/data/{name}", 1, 2, A) for name in ids]
    contents.append(files)
    whole = contents.path.read_bytes()
    contents.path.write_bytes(whole[: cut % len(whole)])
    torn = Contents(contents.path)
    kept = list(torn)
    assert kept == files[: len(kept)]
    last = KnownFile("".join(ids) + "\nz", "/last", 3, 4, B)
    torn.append([last])
    assert list(Contents(contents.path)) == [*kept, last]
    altered = bytearray(whole)
    altered[place % len(whole)] ^= 2
    contents.path.write_bytes(altered)
    believed = set(Contents(contents.path))
    assert believed <= set(files)
    assert len(believed) >= len(files) - 2


def test_each_slice_is_one_line_whatever_its_name(tmp_path):
    contents = Contents(tmp_path / "contents.csv")
    contents.append([KnownFile("a\nb\\n", "/a\nb\\n", 1, 2, A), KnownFile("c\\n", "/c\\n", 3, 4, B)])
    lines = contents.path.read_text(encoding="utf-8").splitlines()[1:]
    assert [line.rpartition(",")[0] for line in lines] == [
        rf'"a\nb\\n","/a\nb\\n",1,2,{A}',
        rf"c\n,/c\n,3,4,{B}",
    ]


def test_lines_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "contents.csv"
    path.write_text(
        "slice_id,path,size,mtime_ns,content,check\n"
        f"plain.png,/data/plain.png,1,2,{A},944bf353\n"
        f"back\\nslash.png,/data/back\\nslash.png,3,4,{B},fb8c3c1e\n"
        f'"comma,.png","/data/comma,.png",5,6,{A},f44dbf12\n'
    )
    assert [known.slice_id for known in Contents(path)] == ["plain.png", "back\\nslash.png", "comma,.png"]


def test_names_that_are_not_utf8_are_kept(tmp_path):
    name = b"sch\xe4del.png".decode(errors="surrogateescape")
    Contents(tmp_path / "contents.csv").append([KnownFile(name, f"/data/{name}", 1, 2, A)])
    assert Contents(tmp_path / "contents.csv").recall(str(Path("/data") / name), 1, 2) == A
