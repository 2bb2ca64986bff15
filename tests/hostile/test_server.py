"""Hostile files sent to a real server: each is refused, and no process of it is replaced."""

from pathlib import Path

import httpx
import pytest

from tests.hostile.files import CASES, Case, is_owned
from tests.servers import Stack, serving

pytestmark = pytest.mark.slow
SENT = (
    "a pickle in torch.save",
    "a pickle in a ZIP",
    "3,000 nested functions",
    "4 GiB from a few bytes",
    "external data by root",
    "a padding of 4e9",
    "a header of 84 MB",
    "a hard link in TAR",
    "a ZIP that leads out",
    "a TAR bomb",
    "300 million rows",
    "5 million columns",
    "an image of 169 megapixels",
)


def server_processes(stack: Stack) -> set[int]:
    """All but the one-shot children, which come and go."""
    return {each.pid for each in stack.processes()} - {
        each.pid for each in stack.processes("ml.run")
    }


def send(client: httpx.Client, case: Case) -> httpx.Response:
    return client.post(
        f"/api/v1/{case.door}/",
        data={"name": "hostile"},
        files={"file": (case.name, case.make())},
        timeout=60,
    )


def test_the_server_stands_through_all_of_them(tmp_path: Path) -> None:
    with serving(tmp_path) as stack, stack.client() as client:
        before = server_processes(stack)
        for name in SENT:
            case = CASES[name]
            answer = send(client, case)
            assert answer.status_code == 422, (name, answer.text)
            assert case.reason in answer.json()["detail"], name

        assert server_processes(stack) == before
        assert client.get("/health/ready").status_code == 200
        assert client.get("/api/v1/models/").json()["total"] == 0
        assert client.get("/api/v1/datasets/hostile").status_code == 404
        for folder in ("models", "datasets"):
            assert not list((tmp_path / folder / ".incoming").glob("*"))
    assert not is_owned()
