"""How long a trainer may be silent: a while, ten of its steps, longer when it loads or saves."""

import os
import time
from pathlib import Path

import pytest
from pytest_django import Settings

from jobs.leases import Lease, LeaseLost
from jobs.models import LogLine, State
from ml.rundir import RunDir
from sessions import hangs
from sessions.hangs import end_if_hung
from sessions.models import MetricPoint, TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db
PATIENCE = 100


@pytest.fixture(autouse=True)
def _patience(settings: Settings) -> None:
    settings.HANG_SECONDS = PATIENCE


@pytest.fixture
def session() -> TrainingSession:
    return factories.session(state=State.RUNNING, attempt=1, lease_owner="me")


@pytest.fixture
def run(session: TrainingSession) -> RunDir:
    made = RunDir(session.run_path)
    made.attempt_path(1).mkdir(parents=True)
    return made


def grow_old(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def is_ended(session: TrainingSession, run: RunDir, owner: str = "me") -> bool:
    end_if_hung(session, run, Lease(session.pk, 1, owner))
    return LogLine.objects.filter(job=session.job, level="warning").exists()


def test_silence_ends_it_after_a_while(session: TrainingSession, run: RunDir) -> None:
    run.beat()
    grow_old(run.beat_path, PATIENCE - 30)
    assert not is_ended(session, run)
    grow_old(run.beat_path, PATIENCE + 1)
    assert is_ended(session, run)
    assert session.summary["hung"]["attempt"] == 1
    assert is_ended(session, run)
    assert LogLine.objects.count() == 1


def test_ten_slow_steps_are_waited_for(session: TrainingSession, run: RunDir) -> None:
    for step in range(1, 4):
        MetricPoint.objects.create(session=session, key="compute_seconds", step=step, value=60)
    run.beat()
    grow_old(run.beat_path, 599 - 30)
    assert not is_ended(session, run)
    grow_old(run.beat_path, 601)
    assert is_ended(session, run)


def test_before_its_first_batch_it_may_take_longer(session: TrainingSession, run: RunDir) -> None:
    grow_old(run.attempt_path(1), hangs.SLOW * PATIENCE - 30)
    assert not is_ended(session, run)
    grow_old(run.attempt_path(1), hangs.SLOW * PATIENCE + 1)
    assert is_ended(session, run)


@pytest.mark.parametrize("folder", [".model.tmp", "checkpoints/.tmp-step-000010"])
def test_while_it_saves_it_may_take_longer(
    session: TrainingSession, run: RunDir, folder: str
) -> None:
    run.beat()
    grow_old(run.beat_path, PATIENCE + 1)
    (run.path / folder).mkdir(parents=True)
    assert not is_ended(session, run)
    (run.path / folder).rmdir()
    assert is_ended(session, run)


def test_a_supervisor_that_lost_its_lease_ends_nothing(
    session: TrainingSession, run: RunDir
) -> None:
    run.beat()
    grow_old(run.beat_path, PATIENCE + 1)
    with pytest.raises(LeaseLost):
        is_ended(session, run, owner="somebody else")
    assert not LogLine.objects.exists()
