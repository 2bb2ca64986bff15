"""One real server for all documents: starting it takes longer than most of them."""

from collections.abc import Iterator

import pytest

from tests.servers import Stack, serving


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(tmp_path_factory.mktemp("docs"), LOG_LEVEL="INFO", HF_HUB_OFFLINE="1") as running:
        yield running
