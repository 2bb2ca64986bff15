"""Every test has its own directories; nothing is written into the real `var/`."""

from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Generator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from tests import factories


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, settings: Settings) -> None:
    for name in ("DATASETS_DIR", "MODELS_DIR", "RUNS_DIR", "TRASH_DIR", "FILE_UPLOAD_TEMP_DIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        setattr(settings, name, folder)


@pytest.fixture(autouse=True)
def _cold_trainers(settings: Settings) -> None:
    settings.WARM_TRAINER = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first: no process should be left with it at the end."""
    items.sort(key=_may_take, reverse=True)


def _may_take(item: pytest.Item) -> float:
    limit = item.get_closest_marker("timeout")
    is_slow = item.get_closest_marker("slow") is not None
    return limit.args[0] if limit else float(is_slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Playwright's loop stays the running one of this thread when its tests are over.

    Everything else that runs here would take itself to be inside of it: asyncio.run and Django's
    async_to_sync refuse, and Django opens a second connection, which waits for the first one's
    transaction. So it is hidden before any fixture of another test begins.
    """
    loop = None if item.get_closest_marker("browser") else _get_running_loop()
    if loop is not None:
        _set_running_loop(None)
    try:
        return (yield)
    finally:
        if loop is not None and loop.is_running():
            _set_running_loop(loop)


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """The real hash is slow on purpose: a third of a second for each person of the cast."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _no_rate_limit(settings: Settings) -> None:
    """A test may ask as often as it likes; those of the limit turn it on."""
    settings.RATE_LIMIT_ENABLED = False


@pytest.fixture
def owner(db: None) -> User:
    return factories.user("owner")


@pytest.fixture
def teammate(db: None) -> User:
    return factories.user("teammate")


@pytest.fixture
def stranger(db: None) -> User:
    """Known to the server, but only allowed to look."""
    return factories.user("stranger", role="viewer")


@pytest.fixture
def admin(db: None) -> User:
    return factories.user("admin", role="admin")
