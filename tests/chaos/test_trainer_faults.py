"""Every failpoint of trainer and launcher: killed there, or a write fails there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from datasets.services import register_builtin
from jobs.models import Job, State
from ml import failpoints
from ml.data.builtin import builtin_dataset
from ml.exits import EXIT_CODES
from ml.rundir import RunDir
from models_registry.models import ModelVersion
from sessions import services
from sessions.models import TrainingSession
from sessions.processes import process_tree
from tests.chaos.checks import FIELDS, check_files, weights_of
from tests.chaos.driver import drive
from tests.ml.train.runs import history, make_run, train
from tests.servers import kill

pytestmark = pytest.mark.timeout(600)  # some start half a dozen trainers, one after the other
EPOCHS = list(range(1, FIELDS["epochs"] + 1))
# Where a result is already told, nothing is left to be tried again.
TOLD = {"result.after_write", "launcher.before_exit", "launcher.after_exit"}
CHAINS = {
    "checkpoint": [
        "checkpoint.before_write@2",
        "checkpoint.after_write",
        "checkpoint.after_rename",
        "checkpoint.before_manifest",
        "checkpoint.after_manifest",
    ],
    "journal": ["journal.before_line@6", "journal.after_line@6"],
    "prune": ["evaluation.before_batch@2", "prune.before_rename", "prune.before_delete"],
    "export": ["export.before_write", "export.after_write", "export.after_rename"],
    "result": ["result.before_write", "result.after_write"],
    "launcher": ["launcher.before_lock", "launcher.after_lock", "launcher.after_start"],
    "exit": ["launcher.before_exit"],
    "after_exit": ["launcher.after_exit"],
}


@pytest.fixture(autouse=True)
def _nothing_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    failpoints._passed.clear()
    monkeypatch.setenv(failpoints.SWITCH, "1")


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iris") / "v1"
    folder.mkdir()
    builtin_dataset("iris", folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, iris: Path) -> RunDir:
    run = make_run(tmp_path_factory.mktemp("undisturbed") / "run", iris, **FIELDS)
    assert train(run) == 0
    return run


@pytest.fixture
def start(owner: User, settings: Settings) -> Iterator[Callable[[], TrainingSession]]:
    settings.SLICE_SECONDS = 0.2
    register_builtin("iris")

    def start_one() -> TrainingSession:
        session = services.start_session(owner=owner, config={"dataset": "iris", **FIELDS})
        Job.objects.update(retries=20)  # more faults than one session should ever see
        return session

    yield start_one
    for session in TrainingSession.objects.all():  # no trainer outlives its test
        kill(process_tree(RunDir(session.run_path)))


def plan(point: str, action: str) -> str:
    name, _, number = point.partition("@")
    return f"{name}:{action}" + (f"@{number}" if number else "")


def check_rows(session: TrainingSession) -> None:
    job = Job.objects.get(pk=session.pk)
    assert (job.state, job.error) == (State.COMPLETED, "")
    assert list(session.epoch_metrics.values_list("epoch", flat=True)) == EPOCHS
    assert ModelVersion.objects.filter(source_session=session.pk).count() == 1


def test_no_point_is_forgotten() -> None:
    points = {point.partition("@")[0] for chain in CHAINS.values() for point in chain}
    assert points == {*failpoints.TRAINER_POINTS, *failpoints.LAUNCHER_POINTS}


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("chain", CHAINS)
def test_killed_at_every_point_in_turn(
    chain: str,
    undisturbed: RunDir,
    start: Callable[[], TrainingSession],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = start()
    for attempt, point in enumerate(CHAINS[chain], 1):
        monkeypatch.setenv(failpoints.PLAN, plan(point, "kill"))
        drive(attempts=attempt)
        job = Job.objects.get(pk=session.pk)
        if point in TOLD:
            assert job.state == State.COMPLETED
        else:
            assert (job.attempt, job.state) == (attempt, State.QUEUED), point
            assert job.error_code in ("killed", "lost")
    monkeypatch.delenv(failpoints.PLAN)
    drive()
    check_rows(session)
    check_files(RunDir(session.run_path), weights_of(undisturbed))


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_no_write_of_the_launcher_has_to_succeed(
    error: str,
    undisturbed: RunDir,
    start: Callable[[], TrainingSession],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = start()
    for attempt, point in enumerate(CHAINS["launcher"], 1):
        monkeypatch.setenv(failpoints.PLAN, plan(point, error))
        drive(attempts=attempt)
        job = Job.objects.get(pk=session.pk)
        assert (job.attempt, job.state, job.error_code) == (attempt, State.QUEUED, "lost"), point
    monkeypatch.setenv(failpoints.PLAN, f"launcher.before_exit:{error}")
    drive()
    assert RunDir(session.run_path).read_exit(4) is None
    check_rows(session)
    check_files(RunDir(session.run_path), weights_of(undisturbed))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    "point",
    [
        point
        for name in ("checkpoint", "journal", "prune", "export", "result")
        for point in CHAINS[name]
    ],
)
def test_a_write_of_the_trainer_that_fails_is_told_and_the_next_attempt_goes_on(
    point: str,
    error: str,
    tmp_path: Path,
    iris: Path,
    undisturbed: RunDir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(tmp_path / "run", iris, **FIELDS)
    monkeypatch.setenv(failpoints.PLAN, plan(point, error))
    assert train(run) == EXIT_CODES["io_error" if error == "EIO" else "disk_full"]
    assert list(run.path.rglob(".tmp-step*")) == []
    monkeypatch.delenv(failpoints.PLAN)
    assert train(run, attempt=2) == 0
    assert history(run, 2) == history(undisturbed, 1)
    check_files(run, weights_of(undisturbed))
