"""The demo models on a real server, at small scale: corpora, sessions, models with cards."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.servers import Stack, manage, serving
from tests.waiting import wait_until

MODELS = ("code-security", "code-generator")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(tmp_path_factory.mktemp("demo"), DEMO_MODELS=",".join(MODELS)) as running:
        yield running


def wait_for_session(stack: Stack, name: str) -> str:
    """Its id, as soon as it is queued: the data is made first."""
    with stack.client() as client:
        asked = partial(client.get, "/api/v1/sessions/", params={"search": name})
        return str(wait_until(lambda: asked().json()["results"])[0]["id"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_first_start_ends_with_models_that_say_what_they_cannot_do(stack: Stack) -> None:
    told = manage("seed_demo", "--small", env=stack.env)
    assert "Queued the making of the data for code-security and code-generator" in told

    for name in MODELS:
        session = stack.wait_for(wait_for_session(stack, name), "completed", "failed")
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
