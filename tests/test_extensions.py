"""Names of built-in things and of plug-ins: found, loaded when wanted, and never one in place of another."""

import logging
import sys

import pytest
from plugins import lay_down

from haemo.errors import BadSettings, BrokenExtension
from haemo.extensions import Extensions, did_you_mean, nearest


def install(folder, name, modules, points):
    lay_down(folder, name, modules, points, "haemo.tools")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("plugged_")]:
        del sys.modules[name]


def tools(**builtin):
    builtin = builtin or {"join": "posixpath:join", "split": "posixpath:split"}
    return Extensions("tool", "haemo.tools", object, builtin)


def test_names_are_the_builtin_ones_in_their_order_and_then_those_of_plugins(site):
    install(site, "plug", {"plugged_a": "wash = str.upper"}, {"wash": "plugged_a:wash", "dry": "plugged_a:x"})
    table = tools(split="posixpath:split", join="posixpath:join")
    assert table.names() == ["split", "join", "dry", "wash"]
    assert table.get("join")("a", "b") == "a/b"
    assert table.get("wash")("a") == "A"
    assert "wash" in table
    assert "iron" not in table


def test_nothing_is_imported_before_it_is_asked_for(site):
    install(site, "plug", {"plugged_lazy": "wash = 1"}, {"wash": "plugged_lazy:wash"})
    table = tools(broken="no_such_module:thing")
    assert table.names() == ["broken", "wash"]
    assert "plugged_lazy" not in sys.modules
    assert table.get("wash") == 1
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        table.get("broken")


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(BadSettings) as caught:
        tools().get("jion")
    assert str(caught.value) == "there is no tool 'jion'. Did you mean join? There are: join, split"
    with pytest.raises(BadSettings, match=r"^there is no tool 'zzz'\. There are: join, split$"):
        tools().get("zzz")


def test_a_plugin_that_cannot_be_imported_is_named_and_harms_no_other(site, caplog):
    install(site, "bad", {"plugged_bad": "import nowhere_at_all"}, {"wash": "plugged_bad:wash"})
    install(site, "good", {"plugged_good": "dry = 2"}, {"dry": "plugged_good:dry"})
    table = tools()
    reason = r"tool 'wash' of bad 1\.2 cannot be loaded \(ModuleNotFoundError: .*'nowhere_at_all'\)"
    with pytest.raises(BrokenExtension, match=reason):
        table.get("wash")
    with caplog.at_level(logging.WARNING, "haemo"):
        assert list(table.usable()) == ["join", "split", "dry"]
        table.usable()
    assert [record.message.split(" cannot")[0] for record in caplog.records] == [
        "left out: the tool 'wash' of bad 1.2"
    ]


def test_a_plugin_may_replace_neither_what_is_built_in_nor_another(site):
    install(site, "one", {"plugged_one": "x = 1"}, {"join": "plugged_one:x", "wash": "plugged_one:x"})
    install(site, "two", {}, {"wash": "plugged_one:x"})
    table = tools()
    with pytest.raises(BrokenExtension, match=r"'join' is built in, and one 1\.2 may not replace it"):
        table.get("join")
    with pytest.raises(BrokenExtension, match=r"one 1\.2 and two 1\.2 both bring a tool 'wash'"):
        table.get("wash")
    assert table.get("split")("a/b") == ("a", "b")


def test_a_plugin_of_the_wrong_kind_is_refused(site):
    install(site, "plug", {"plugged_kind": "wash = 'text'"}, {"wash": "plugged_kind:wash"})
    table = Extensions("tool", "haemo.tools", int, {})
    with pytest.raises(BrokenExtension, match=r"of plug 1\.2 is plugged_kind:wash, a str; it must be a int"):
        table.get("wash")


def test_nearest_names():
    assert nearest("fetaures", ["index", "features", "finetune"]) == ["features"]
    assert nearest("ALEXNET", ["alexnet", "cnn"]) == ["alexnet"]
    assert nearest("q", ["alexnet", "cnn"]) == []
    assert nearest("x", []) == []
    assert did_you_mean("pool", ["pool1", "pool2", "fc"]) == " Did you mean pool1 or pool2?"
    assert (
        did_you_mean("pool", ["pool1", "pool2", "pool3", "pool4"]) == " Did you mean pool1, pool2 or pool3?"
    )
