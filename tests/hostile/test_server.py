"""Hostile files sent to a real server: each is refused, and no process of it is replaced."""

from pathlib import Path

import httpx
import pytest

from tests.hostile.files import CASES, Case, is_owned
from tests.ml.serve.deadly import DEADLY, crasher_bytes
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
    "a tokenizer of 50 MB",
    "a program that is code",
    "a program with a pickle",
    "a program of 4 TiB",
    "half a program",
    "half an ONNX model",
    "half of safetensors",
    "half a ZIP",
    "half a TAR",
    "a ZIP in ten ZIPs",
    "a hard link in TAR",
    "a ZIP that leads out",
    "a TAR bomb",
    "300 million rows",
    "5 million columns",
    "an image of 169 megapixels",
)
BY_PATH = ("a pickle in torch.save", "external data by root", "a program that is code")


def crasher() -> bytes:
    return crasher_bytes(deadly=DEADLY)


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
    )


def load(client: httpx.Client, case: Case, models: Path) -> httpx.Response:
    """The same file by its path, as somebody at the machine would have it loaded."""
    (models / case.name).write_bytes(case.make())
    try:
        return client.post("/api/v1/models/load", json={"path": case.name, "model_name": "hostile"})
    finally:
        (models / case.name).unlink()


def test_the_server_stands_through_all_of_them(tmp_path: Path) -> None:
    with serving(tmp_path) as stack, stack.client() as client:
        before = server_processes(stack)
        for name in SENT:
            case = CASES[name]
            answer = send(client, case)
            assert answer.status_code == 422, (name, answer.text)
            assert case.reason in answer.json()["detail"], name
        for name in BY_PATH:
            answer = load(client, CASES[name], tmp_path / "models")
            assert answer.status_code == 422, (name, answer.text)
            assert CASES[name].reason in answer.json()["detail"], name
        crashed = send(client, Case(door="models", name="m.pt2", make=crasher, reason=""))
        assert (crashed.status_code, "SIGSEGV" in crashed.text) == (422, True), crashed.text

        assert server_processes(stack) == before
        assert client.get("/health/ready").status_code == 200
        assert client.get("/api/v1/models/").json()["total"] == 0
        assert client.get("/api/v1/datasets/hostile").status_code == 404
        for folder in ("models", "datasets"):
            assert not list((tmp_path / folder / ".incoming").glob("*"))
    assert not is_owned()
