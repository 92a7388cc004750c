import pytest

from features.atomic import replacing, write_text
from features.failures import Failure, read_failures, replace_failures


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
