"""A whole server under kill -9: trainings go on, nothing is lost, all comes back by itself."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import httpx
import psutil
import pytest

from ml.rundir import RunDir
from tests.servers import Stack, answers, kill, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]

LOCKED_SECONDS = 15
LONG = {"dataset": "digits", "architecture": "mlp", "epochs": 10_000, "batch_size": 64}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture
def session(stack: Stack) -> Iterator[str]:
    """A training that has reached its first epoch; cancelled afterwards."""
    session_id = post(stack, "/api/v1/sessions/", LONG)["id"]
    until(lambda: epochs(stack, session_id))
    yield session_id
    post(stack, f"/api/v1/sessions/{session_id}/cancel")
    stack.wait_for(session_id, "cancelled")


def post(stack: Stack, path: str, body: dict[str, Any] | None = None) -> Any:
    with stack.client() as client:
        answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


def get(stack: Stack, path: str) -> Any:
    with stack.client() as client:
        return client.get(path).raise_for_status().json()


def epochs(stack: Stack, session_id: str) -> list[int]:
    metrics = get(stack, f"/api/v1/sessions/{session_id}/metrics")
    return [row["epoch"] for row in metrics["results"]]


def until(look: Callable[[], object]) -> None:
    def is_so() -> object:
        try:
            return look()
        except httpx.HTTPError:
            return None  # the server is on its way back

    wait_until(is_so)


def trainer_of(stack: Stack, session_id: str) -> psutil.Process:
    owner = RunDir(stack.var_dir / "runs" / session_id).lock_owner()
    assert owner is not None
    return psutil.Process(owner["pid"]).children(recursive=True)[0]


def goes_on(stack: Stack, session_id: str) -> None:
    """New epochs arrive, in order, none twice and none left out."""
    last = max(epochs(stack, session_id))
    until(lambda: max(epochs(stack, session_id)) > last)
    seen = epochs(stack, session_id)
    assert seen == list(range(1, len(seen) + 1))


def is_ready(stack: Stack) -> bool:
    return answers(f"{stack.url}/health/ready")


def cluster(stack: Stack, name: str) -> list[psutil.Process]:
    """The processes of one task cluster, its main process first."""
    found = []
    for process in stack.processes("qcluster"):
        with suppress(psutil.NoSuchProcess):  # one that is replaced after many tasks
            if process.environ().get("Q_CLUSTER_NAME", "default") == name:
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def test_the_web_server_dies(stack: Stack, session: str) -> None:
    trainer = trainer_of(stack, session)
    kill(stack.processes("uvicorn"))
    until(lambda: is_ready(stack))
    assert trainer.is_running()
    goes_on(stack, session)


def test_every_worker_of_the_gpu_cluster_dies(stack: Stack, session: str) -> None:
    """Busy and idle ones: the slice that was under way is followed by another."""
    trainer = trainer_of(stack, session)
    _main, *others = cluster(stack, "gpu")
    kill(others)
    goes_on(stack, session)
    assert trainer.is_running()
    until(lambda: is_ready(stack))


def test_a_worker_of_the_default_cluster_dies(stack: Stack, session: str) -> None:
    _main, *others = cluster(stack, "default")
    others[-1].kill()
    goes_on(stack, session)
    until(lambda: is_ready(stack))


def test_a_whole_cluster_dies(stack: Stack, session: str) -> None:
    trainer = trainer_of(stack, session)
    kill(cluster(stack, "gpu"))
    goes_on(stack, session)
    assert trainer.is_running()
    until(lambda: is_ready(stack))


def test_a_trainer_dies_and_continues_from_its_last_checkpoint(stack: Stack, session: str) -> None:
    trainer_of(stack, session).kill()
    until(lambda: get(stack, f"/api/v1/sessions/{session}")["attempt"] == 2)
    goes_on(stack, session)
    lines = get(stack, f"/api/v1/sessions/{session}/logs")["results"]
    assert any("SIGKILL" in line["message"] for line in lines)
    assert any(line["message"].startswith("Resumed from epoch") for line in lines)


def test_a_database_that_is_locked_for_a_while_stops_no_training(
    stack: Stack, session: str
) -> None:
    trainer = trainer_of(stack, session)
    journal = RunDir(stack.var_dir / "runs" / session).journal_path(1)
    with closing(sqlite3.connect(stack.var_dir / "db.sqlite3", timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        told = journal.stat().st_size
        time.sleep(LOCKED_SECONDS)
        assert journal.stat().st_size > told
        database.rollback()
    goes_on(stack, session)
    assert trainer.is_running()
    until(lambda: is_ready(stack))
