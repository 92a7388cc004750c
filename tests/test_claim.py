import json
import multiprocessing
import os
import signal
from dataclasses import asdict, replace

import pytest

from haemo.errors import RunLocked
from haemo.pipeline.run import claim as claim_module
from haemo.pipeline.run.claim import Holder, claim


def hold(folder, ready, release):
    with claim(folder):
        ready.set()
        release.wait()


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, release))
    process.start()
    assert ready.wait(30)
    yield process, release
    process.kill()
    process.join()


def leave_claim(folder, holder):
    (folder / ".features.claim").write_text(json.dumps(asdict(holder)))


def test_a_claim_can_be_made_again_after_it_was_given_up(tmp_path):
    for _ in range(2):
        with claim(tmp_path):
            assert json.loads((tmp_path / ".features.claim").read_text())["pid"] == os.getpid()
    assert (tmp_path / ".features.claim").read_text() == ""


def test_a_second_claim_is_refused_with_the_name_of_the_first(tmp_path, other):
    process, release = other
    with pytest.raises(RunLocked, match=f"in use by process {process.pid} on ") as caught, claim(tmp_path):
        pass
    assert str(tmp_path) in str(caught.value)
    release.set()
    process.join()
    with claim(tmp_path):
        pass


def test_a_killed_process_is_no_obstacle(tmp_path, other):
    process, _ = other
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert json.loads((tmp_path / ".features.claim").read_text())["pid"] == process.pid
    with claim(tmp_path):
        pass


def test_a_claim_made_before_this_host_was_restarted_is_void(tmp_path):
    leave_claim(tmp_path, replace(Holder.me(), boot="an earlier one"))
    with claim(tmp_path):
        pass


def test_a_claim_of_another_host_is_respected_and_can_be_lifted(tmp_path):
    leave_claim(tmp_path, Holder(17, "node5", "its boot", "123"))
    refusal = r"claimed by process 17 on node5; .* delete .*\.features\.claim"
    with pytest.raises(RunLocked, match=refusal), claim(tmp_path):
        pass
    (tmp_path / ".features.claim").unlink()
    with claim(tmp_path):
        pass


def test_our_own_claim_that_was_left_over_is_void(tmp_path):
    leave_claim(tmp_path, Holder.me())
    with claim(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}'])
def test_a_claim_that_cannot_be_read_is_void(tmp_path, text):
    (tmp_path / ".features.claim").write_text(text)
    with claim(tmp_path):
        pass


def test_where_the_disk_knows_no_locks_the_process_itself_is_asked_for(tmp_path, monkeypatch, other):
    process, _ = other
    monkeypatch.setattr(claim_module, "_lock", lambda descriptor: None)
    with pytest.raises(RunLocked, match=f"claimed by process {process.pid}"), claim(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with claim(tmp_path):
        pass


def test_a_process_number_that_was_given_again_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(claim_module, "_lock", lambda descriptor: None)
    leave_claim(tmp_path, replace(Holder.me(), started="1"))
    with claim(tmp_path):
        pass


def test_an_error_inside_gives_the_claim_up(tmp_path):
    with pytest.raises(ValueError, match="inside"), claim(tmp_path):
        raise ValueError("inside")
    with claim(tmp_path):
        pass
