"""Every failpoint of the supervisor: killed there, stopped there, or a write fails there.

Killed and stopped supervisors are processes of their own, with a database of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from datasets.services import register_builtin
from jobs import services as jobs
from jobs.models import Job, State
from ml import failpoints
from ml.launch import marked_processes
from ml.rundir import RunDir
from models_registry.models import ModelVersion
from sessions import services
from tests.chaos.checks import FIELDS, check_files, weights_of
from tests.chaos.driver import drive
from tests.servers import environment, kill, manage, run_django, start_django

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("supervisor-faults"),
    pytest.mark.timeout(600),  # each starts a dozen processes, one after the other
]

REQUEUE = "supervisor.before_requeue"
STRAIGHT = tuple(point for point in failpoints.SUPERVISOR_POINTS if point != REQUEUE)
DIES_ONCE = "checkpoint.after_manifest:kill"
DEADLINE_SECONDS = 120
PREPARE = """
from accounts.services import create_first_admin
from datasets.services import register_builtin
create_first_admin()
register_builtin("iris")
"""
START = """
import json
from django.contrib.auth.models import User
from sessions.services import start_session
session = start_session(owner=User.objects.get(), config=json.loads({config!r}))
print(json.dumps(session.pk))
"""
DRIVE = """
from django.conf import settings
settings.LEASE_SECONDS, settings.SLICE_SECONDS = 3, 0.5
from tests.chaos.driver import drive
drive()
"""
TELL = """
import json
from jobs.models import Job
from models_registry.models import ModelVersion
from sessions.models import EpochMetric, MetricPoint
job = Job.objects.get(pk={session!r})
loss = MetricPoint.objects.filter(session_id=job.pk, key="loss")
print(json.dumps({{
    "state": job.state, "attempt": job.attempt, "error": job.error,
    "epochs": list(EpochMetric.objects.filter(session_id=job.pk).values_list("epoch", flat=True)),
    "points": list(loss.values_list("step", "value")),
    "models": ModelVersion.objects.filter(source_session=job.pk).count(),
    "crashes": job.training_session.summary.get("crashes"),
    "log": list(job.log_lines.values_list("message", flat=True)),
    "offset": job.journal_offset,
    "updated_at": str(job.updated_at),
}}))
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = environment(tmp_path_factory.mktemp("supervisors"), FAILPOINTS="1")
    manage("migrate", "--verbosity", "0", env=made)
    run_django(PREPARE, made)
    return made


def start(env: dict[str, str]) -> str:
    config = json.dumps({"dataset": "iris", **FIELDS})
    return str(run_django(START.format(config=config), env))


def supervise(env: dict[str, str], plan: str = "") -> subprocess.Popen[str]:
    return start_django(DRIVE, {**env, failpoints.PLAN: plan})


def end_of(supervisor: subprocess.Popen[str]) -> int:
    supervisor.communicate(timeout=DEADLINE_SECONDS)
    return supervisor.returncode


def tell(env: dict[str, str], session: str) -> dict[str, Any]:
    found: dict[str, Any] = run_django(TELL.format(session=session), env)
    return found


def run_of(env: dict[str, str], session: str) -> RunDir:
    return RunDir(Path(env["VAR_DIR"]) / "runs" / session)


@pytest.fixture(scope="module")
def undisturbed(env: dict[str, str]) -> tuple[str, dict[str, Any]]:
    session = start(env)
    assert end_of(supervise(env)) == 0
    return weights_of(run_of(env, session)), tell(env, session)


@pytest.fixture(autouse=True)
def _no_orphans(request: pytest.FixtureRequest, env: dict[str, str]) -> Iterator[None]:
    yield
    for run in (Path(env["VAR_DIR"]) / "runs").glob("*"):
        kill(marked_processes(run))


def check(
    env: dict[str, str], session: str, undisturbed: tuple[str, dict[str, Any]]
) -> dict[str, Any]:
    weights, expected = undisturbed
    found = tell(env, session)
    for fact in ("state", "epochs", "models"):
        assert found[fact] == expected[fact], fact
    # Which steps are told depends on the clock; what is told of a step does not.
    losses = dict(expected["points"])
    assert all(losses.get(step, value) == value for step, value in found["points"])
    check_files(run_of(env, session), weights)
    return found


def test_killed_at_every_point_in_turn(
    env: dict[str, str], undisturbed: tuple[str, dict[str, Any]]
) -> None:
    session = start(env)
    for point in STRAIGHT:
        assert end_of(supervise(env, f"{point}:kill")) == -signal.SIGKILL, point
    assert end_of(supervise(env)) == 0
    found = check(env, session, undisturbed)
    assert found["attempt"] == 1
    assert sorted(found["log"]) == sorted(set(found["log"])), "a line was told twice"


def test_killed_while_it_puts_back_what_died(
    env: dict[str, str], undisturbed: tuple[str, dict[str, Any]]
) -> None:
    session = start(env)
    plan = f"{DIES_ONCE},{REQUEUE}:kill"
    assert end_of(supervise(env, plan)) == -signal.SIGKILL
    assert tell(env, session)["state"] == State.RUNNING
    assert end_of(supervise(env, "supervisor.after_end:kill")) == -signal.SIGKILL
    assert tell(env, session)["crashes"]["count"] == 1
    assert end_of(supervise(env)) == 0
    assert check(env, session, undisturbed)["attempt"] == 2


def test_one_that_was_stopped_beyond_its_lease_writes_nothing_any_more(
    env: dict[str, str], undisturbed: tuple[str, dict[str, Any]]
) -> None:
    session = start(env)
    plan = f"{DIES_ONCE},supervisor.after_tail:stop"
    stale = supervise(env, plan)
    wait_until_stopped(stale)
    assert end_of(supervise(env)) == 0
    before = check(env, session, undisturbed)
    os.kill(stale.pid, signal.SIGCONT)
    assert end_of(stale) == 0
    assert tell(env, session) == before


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)
        if pid:
            assert os.WIFSTOPPED(status)
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to its failpoint")


@pytest.mark.django_db
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_no_write_has_to_succeed_at_the_first_time(
    error: str, owner: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SLICE_SECONDS = 0.2
    failpoints._passed.clear()
    register_builtin("iris")
    session = services.start_session(owner=owner, config={"dataset": "iris", **FIELDS})
    monkeypatch.setattr(jobs, "MOST_STUMBLES", len(failpoints.SUPERVISOR_POINTS) + 1)
    plan = [f"{point}:{error}" for point in failpoints.SUPERVISOR_POINTS]
    monkeypatch.setenv(failpoints.SWITCH, "1")
    monkeypatch.setenv(failpoints.PLAN, ",".join([*plan, DIES_ONCE]))
    drive(attempts=1)
    assert REQUEUE in failpoints._passed
    monkeypatch.setenv(failpoints.PLAN, ",".join(plan))
    drive()
    assert failpoints._passed.keys() >= set(failpoints.SUPERVISOR_POINTS)
    job = Job.objects.get(pk=session.pk)
    assert (job.state, job.attempt) == (State.COMPLETED, 2)
    epochs = list(session.epoch_metrics.values_list("epoch", flat=True))
    assert epochs == list(range(1, FIELDS["epochs"] + 1))
    assert ModelVersion.objects.filter(source_session=session.pk).count() == 1
