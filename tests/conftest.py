"""What holds for every test."""

import logging

import pytest
from debian_packages import (  # noqa: F401 - pytest finds them here
    pytest_collection_modifyitems,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep what is measured on this host for the length of the tests, and away from that of the person."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _log_as_it_was():
    """Undo what a command of the same process did to the log, so that the order of tests does not matter."""
    logger = logging.getLogger("haemo")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
