"""A pytest plugin that must come first (`-p tests.environment`): Django reads its settings
before any conftest.py, and the tests must not touch the real `var/`."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="mlserver-test-")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the hub for a model
os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 50)

# The same examples each time: what decides whether work lands must not be drawn by lot.
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["VAR_DIR"], ignore_errors=True)
