"""A pytest plugin that must come first (`-p tests.environment`): Django reads its settings
before any conftest.py, and the tests must not touch the real `var/`."""

import os
import shutil
import tempfile

import pytest

os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="mlserver-test-")
os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 50)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["VAR_DIR"], ignore_errors=True)
