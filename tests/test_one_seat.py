"""One seat, several sessions, a whole server: who runs when."""

from collections.abc import Iterator
from typing import Any

import pytest

from ml.rundir import RunDir
from sessions.processes import process_tree
from tests.servers import Stack, serving
from tests.waiting import has_ended, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("one-seat"), pytest.mark.timeout(600)]

QUICK = {"dataset": "iris", "epochs": 2}
LONG = {"dataset": "iris", "epochs": 10_000}
DIVERGES = {"dataset": "diabetes", "learning_rate": 10, "optimizer": "sgd", "max_grad_norm": None}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(tmp_path_factory.mktemp("one-seat"), MAX_CONCURRENT_SESSIONS="1") as running:
        yield running


def start(stack: Stack, config: dict[str, Any], **more: Any) -> str:
    with stack.client() as client:
        answer = client.post("/api/v1/sessions/", json={**config, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def cancel(stack: Stack, session_id: str) -> None:
    with stack.client() as client:
        client.post(f"/api/v1/sessions/{session_id}/cancel").raise_for_status()


def test_they_run_one_after_the_other_and_a_priority_jumps_the_queue(stack: Stack) -> None:
    blocker = start(stack, LONG)
    stack.wait_for(blocker, "running")
    first, second = start(stack, QUICK), start(stack, QUICK)
    urgent = start(stack, QUICK, priority=5)
    cancel(stack, blocker)
    ended = [stack.wait_for(one, "completed") for one in (urgent, first, second)]
    starts = [session["started_at"] for session in ended]
    finishes = [session["finished_at"] for session in ended]
    assert starts == sorted(starts)
    assert all(finish <= begun for finish, begun in zip(finishes, starts[1:], strict=False))


def test_one_that_fails_does_not_stop_the_next(stack: Stack) -> None:
    failing, following = start(stack, DIVERGES), start(stack, QUICK)
    failed = stack.wait_for(failing, "failed")
    assert failed["error_code"] == "diverged"
    assert "learning_rate" in failed["error"]
    stack.wait_for(following, "completed")


def test_the_processes_of_a_cancelled_one_are_gone(stack: Stack) -> None:
    session_id = start(stack, LONG)
    run = RunDir(stack.var_dir / "runs" / session_id)
    with stack.client() as client:
        wait_until(lambda: client.get(f"/api/v1/sessions/{session_id}").json()["current_epoch"])
    tree = process_tree(run)
    assert tree
    cancel(stack, session_id)
    stack.wait_for(session_id, "cancelled")
    # A dead launcher's entry stays until the worker that started it looks again.
    wait_until(lambda: all(map(has_ended, tree)))
