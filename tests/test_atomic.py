import pytest

from haemo import cache
from haemo.atomic import replacing, write_text
from haemo.features.failures import Failure, read_failures, replace_failures


def write_stream(path, text):
    with cache.replacing(path) as stream:
        stream.write(text.encode())


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "ä\r\n")
    assert path.read_bytes() == "ä\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failures_of_one_stage_replace_only_its_own(tmp_path):
    path = tmp_path / "failures.csv"
    assert read_failures(path) == []
    replace_failures(path, "index", [Failure("a.png", "index", "empty, 0 bytes")])
    replace_failures(path, "features", [Failure("b.png", "features", "truncated")])
    replace_failures(path, "features", [Failure("c.png", "features", 'a "quoted" reason')])
    assert read_failures(path) == [
        Failure("a.png", "index", "empty, 0 bytes"),
        Failure("c.png", "features", 'a "quoted" reason'),
    ]
    replace_failures(path, "index", [])
    assert [failure.path for failure in read_failures(path)] == ["c.png"]


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_what_cannot_be_written_is_named_and_not_its_temporary_name(tmp_path, folder):
    (tmp_path / "file").touch()
    path = tmp_path / folder / "table.csv"
    with pytest.raises(OSError, match="table") as caught:
        write_text(path, "text")
    assert str(caught.value.filename) == str(path)
    assert "tmp'" not in str(caught.value)


@pytest.mark.parametrize("put", [write_text, write_stream])
def test_a_name_that_is_taken_by_a_folder_is_named(tmp_path, put):
    path = tmp_path / "table.csv"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        put(path, "text")
    assert str(caught.value) == f"[Errno 21] Is a directory: '{path}'"
    assert list(tmp_path.iterdir()) == [path]
