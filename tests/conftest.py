"""What holds for every test."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _log_as_it_was():
    """Undo what a command of the same process did to the log, so that the order of tests does not matter."""
    logger = logging.getLogger("haemo")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
