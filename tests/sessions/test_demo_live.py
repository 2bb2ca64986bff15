"""The demo models on a real server, at small scale: corpora, sessions, models with cards."""

import time
from collections.abc import Iterator

import pytest

from tests.servers import Stack, manage, serving

MODELS = ("code-security", "code-generator")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(tmp_path_factory.mktemp("demo"), DEMO_MODELS=",".join(MODELS)) as running:
        yield running


def wait_for_session(stack: Stack, name: str, timeout: float = 300) -> str:
    """Its id, as soon as it is queued: the data is made first."""
    deadline = time.monotonic() + timeout
    with stack.client() as client:
        while time.monotonic() < deadline:
            found = client.get("/api/v1/sessions/", params={"search": name}).json()["results"]
            if found:
                return str(found[0]["id"])
            time.sleep(0.3)
    raise AssertionError(f"no session {name} was queued")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_first_start_ends_with_models_that_say_what_they_cannot_do(stack: Stack) -> None:
    told = manage("seed_demo", "--small", env=stack.env)
    assert "Queued the making of the data for code-security and code-generator" in told

    for name in MODELS:
        session = stack.wait_for(wait_for_session(stack, name), "completed", "failed", timeout=300)
        assert session["state"] == "completed", session["error"]
    with stack.client() as client:
        classifier, generator = (
            client.get(f"/api/v1/models/{name}/versions/1").json() for name in MODELS
        )
    assert (classifier["framework"], classifier["task"]) == ("onnx", "classification")
    assert "| library |" in classifier["card"]
    assert (generator["framework"], generator["task"]) == ("transformers", "causal")
    assert "means little" in generator["card"]
    assert "Queued" not in manage("seed_demo", "--small", env=stack.env)
