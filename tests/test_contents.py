from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from features.contents import Contents, KnownFile

A, B = "a" * 64, "b" * 64
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


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
    before = contents.path.stat()
    Contents(contents.path).replace(files)
    assert contents.path.stat() == before


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(names, names), unique_by=(lambda pair: pair[0], lambda pair: pair[1])))
def test_any_name_is_remembered_or_forgotten_but_never_mistaken(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("contents") / "contents.csv"
    files = [KnownFile(*pair, 1, 2, A) for pair in pairs]
    Contents(path).append(files)
    again = Contents(path)
    assert set(again) <= set(files)
    assert set(again) >= {known for known in files if "\n" not in known.slice_id + known.path}


def test_names_that_are_not_utf8_are_kept(tmp_path):
    name = b"sch\xe4del.png".decode(errors="surrogateescape")
    Contents(tmp_path / "contents.csv").append([KnownFile(name, f"/data/{name}", 1, 2, A)])
    assert Contents(tmp_path / "contents.csv").recall(str(Path("/data") / name), 1, 2) == A
