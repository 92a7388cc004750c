"""What holds for every test."""

import logging

import pytest
from not_run import (  # noqa: F401 - pytest finds them here
    leave_out,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

# Files that take longest, half a minute of a core each or near it, are begun first: one of them at the end
# would keep one process at work while the others have none.
_LONG = (
    *("torture", "package", "page_browser", "examples", "prediction", "packed_heads", "kill", "cluster"),
    *("pacs", "bundle_use", "twins", "localisation", "bench_gpu", "search", "classification", "fuzz"),
    "frozen_networks",
)


def pytest_collection_modifyitems(config, items):
    leave_out(config, items)
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in _LONG)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep what is measured on this host for the length of the tests, and away from that of the person."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _quiet_log():
    logger = logging.getLogger("haemo")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _log_as_it_was():
    """Undo what commands of the same process did to the log, those that a wider fixture ran among them."""
    _quiet_log()
    yield
    _quiet_log()
