import os
import subprocess
import sys

import pytest

from haemo import atomic, cache
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


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, others = atomic._kernel(), "0" * 8
    names = {
        f".a.json.{mine}.{ended.pid}.00000000.tmp": False,
        f".a.json.{mine}.{os.getpid()}.00000000.tmp": True,
        f".a.json.{others}.{ended.pid}.00000000.tmp": True,
        f".b.json.{others}.{ended.pid}.00000000.tmp": False,
        f"a.json.{mine}.{ended.pid}.00000000.tmp": True,
        ".a.json.tmp": True,
    }
    for name in names:
        (tmp_path / name).touch()
        if name.startswith(".b"):
            os.utime(tmp_path / name, (0, 0))
    write_text(tmp_path / "text", "")
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_write_that_is_killed_leaves_what_the_next_one_removes(tmp_path):
    path = tmp_path / "a.csv"
    code = "import os, sys; from pathlib import Path; from haemo.atomic import replacing\n"
    code += "with replacing(Path(sys.argv[1])) as name: name.touch(); os.abort()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True)
    assert [name.name[:7] for name in tmp_path.iterdir()] == [".a.csv."]
    write_text(path, "x")
    assert list(tmp_path.iterdir()) == [path]
