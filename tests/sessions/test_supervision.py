"""Slices against a real launcher and a real trainer, without the queue between them."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from datasets.services import register_builtin
from jobs import services as jobs
from jobs.models import Job, LogLine, State
from ml.rundir import RunDir
from sessions import services, supervision
from sessions.models import EpochMetric, TrainingSession
from sessions.processes import process_tree
from sessions.supervision import abandon
from tests.servers import kill
from tests.waiting import has_ended, wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

QUICK = {"dataset": "iris", "epochs": 3, "batch_size": 64, "seed": 1}
LONG = {**QUICK, "epochs": 10_000}


@pytest.fixture(autouse=True)
def short_slices(settings: Settings) -> Iterator[None]:
    settings.SLICE_SECONDS = 0.5
    yield
    for session in TrainingSession.objects.all():  # no trainer outlives its test
        kill(process_tree(RunDir(session.run_path)))
    for launcher in supervision._launchers.values():
        launcher.kill()
        launcher.wait()
    supervision._launchers.clear()


@pytest.fixture
def start(owner: User) -> Callable[..., TrainingSession]:
    register_builtin("iris")

    def start_one(config: dict[str, Any] = QUICK, **more: Any) -> TrainingSession:
        return services.start_session(owner=owner, config=config, **more)

    return start_one


def claim() -> Job:
    job = jobs.claim_next("train")
    assert job is not None
    return job


def work_until(job_id: str, done: Callable[[Job], bool]) -> Job:
    def look() -> Job | None:
        jobs.run_slice(job_id)
        job = Job.objects.get(pk=job_id)
        return job if done(job) else None

    return wait_until(look, Job.objects.filter(pk=job_id).values)


def is_not_running(job: Job) -> bool:
    return job.state != State.RUNNING


def has_an_epoch(job: Job) -> bool:
    return EpochMetric.objects.filter(session_id=job.pk).exists()


def test_a_session_runs_to_its_model(start: Callable[..., TrainingSession]) -> None:
    session = start(name="flowers")
    claim()
    job = work_until(session.pk, is_not_running)
    session.refresh_from_db()
    assert (job.state, job.progress, job.error_code) == (State.COMPLETED, 100, "")
    assert [m.epoch for m in session.epoch_metrics.order_by("epoch")] == [1, 2, 3]
    assert session.produced is not None
    assert str(session.produced) == "flowers@1"
    assert session.produced.lineage["session"] == session.pk
    assert not RunDir(session.run_path).is_locked()


def test_a_killed_trainer_is_tried_again_and_goes_on(
    start: Callable[..., TrainingSession],
) -> None:
    session = start({**QUICK, "epochs": 200})
    claim()
    work_until(session.pk, has_an_epoch)
    kill(process_tree(RunDir(session.run_path)))
    job = work_until(session.pk, is_not_running)
    assert (job.state, job.error_code) in [(State.QUEUED, "killed"), (State.QUEUED, "lost")]
    job = claim()
    assert job.attempt == 2
    work_until(session.pk, is_not_running)
    epochs = list(EpochMetric.objects.filter(session=session).values_list("epoch", flat=True))
    assert epochs == list(range(1, 201))
    assert LogLine.objects.filter(job=job, message__startswith="Resumed from epoch").exists()


def test_a_supervisor_that_comes_later_adopts_what_runs(
    start: Callable[..., TrainingSession],
) -> None:
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    owner = RunDir(session.run_path).lock_owner()
    Job.objects.filter(pk=session.pk).update(
        lease_owner="a dead one", lease_until="2020-01-01T00:00Z"
    )
    seen = EpochMetric.objects.filter(session=session).count()
    work_until(session.pk, lambda job: session.epoch_metrics.count() > seen)
    assert RunDir(session.run_path).lock_owner() == owner


def test_a_trainer_of_an_attempt_that_is_over_makes_room_for_the_newer(
    start: Callable[..., TrainingSession],
) -> None:
    """As a supervisor would leave it that slept beyond its lease and then launched."""
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    run = RunDir(session.run_path)
    stale = process_tree(run)
    Job.objects.filter(pk=session.pk).update(attempt=2, journal_offset=0)
    work_until(session.pk, lambda job: (run.lock_owner() or {}).get("attempt") == 2)
    wait_until(lambda: all(map(has_ended, stale)))
    told = LogLine.objects.filter(job=session.job, message__startswith="Resumed from epoch")
    work_until(session.pk, lambda job: told.exists())


def test_cancelling_ends_the_whole_process_tree(start: Callable[..., TrainingSession]) -> None:
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    tree = process_tree(RunDir(session.run_path))
    assert len(tree) >= 2
    services.cancel_session(session, by=session.job.owner or User())
    job = work_until(session.pk, is_not_running)
    assert job.state == State.CANCELLED
    wait_until(lambda: all(map(has_ended, tree)))


def test_a_trainer_that_does_not_listen_is_ended_all_the_same(
    start: Callable[..., TrainingSession],
) -> None:
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    trainer = process_tree(RunDir(session.run_path))[0]
    os.kill(trainer.pid, signal.SIGSTOP)
    services.cancel_session(session, by=session.job.owner or User())
    assert work_until(session.pk, is_not_running).state == State.CANCELLED


def test_a_paused_session_goes_on_where_it_stopped(start: Callable[..., TrainingSession]) -> None:
    session = start({**QUICK, "epochs": 200})
    claim()
    work_until(session.pk, has_an_epoch)
    services.pause_session(session, by=session.job.owner or User())
    assert work_until(session.pk, is_not_running).state == State.PAUSED
    session.refresh_from_db()
    services.resume_session(session, by=session.job.owner or User())
    claim()
    assert work_until(session.pk, is_not_running).state == State.COMPLETED
    assert session.epoch_metrics.count() == 200


def test_one_that_always_dies_at_the_same_epoch_ends_as_poisoned(
    start: Callable[..., TrainingSession],
) -> None:
    session = start(LONG)
    for _ in range(3):
        Job.objects.filter(pk=session.pk).update(retry_at=None)
        claim()
        run = RunDir(session.run_path)
        while not (tree := process_tree(run)):
            jobs.run_slice(session.pk)
        kill(tree)
        job = work_until(session.pk, is_not_running)
        session.refresh_from_db()
    assert (job.state, job.error_code) == (State.FAILED, "poisoned")


def test_a_demo_gives_its_seat_to_somebodys_own_session_and_goes_on_afterwards(
    start: Callable[..., TrainingSession], settings: Settings
) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    demo = start({**QUICK, "epochs": 300}, preemptible=True)
    claim()
    work_until(demo.pk, has_an_epoch)
    own = start()
    assert jobs.claim_next("train") is None
    job = work_until(demo.pk, is_not_running)
    assert (job.state, job.error_code) == (State.QUEUED, "preempted")
    assert claim().pk == own.pk
    assert work_until(own.pk, is_not_running).state == State.COMPLETED
    assert claim().pk == demo.pk
    assert work_until(demo.pk, is_not_running).state == State.COMPLETED
    assert demo.epoch_metrics.count() == 300


def test_a_trainer_without_progress_tells_where_it_hangs_and_is_tried_again(
    start: Callable[..., TrainingSession], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    monkeypatch.setattr(RunDir, "last_beat", lambda run: time.time() - 1000)
    job = work_until(session.pk, is_not_running)
    assert (job.state, job.error_code) == (State.QUEUED, "hung")
    assert "No progress for 1000 seconds" in job.error
    said = (RunDir(session.run_path).attempt_path(1) / "stderr.log").read_text()
    assert "most recent call first" in said
    assert "ml/train/loop.py" in said
    monkeypatch.undo()
    claim()
    work_until(session.pk, has_an_epoch)
    lines = LogLine.objects.filter(job=job, message__startswith="Resumed from epoch")
    work_until(session.pk, lambda job: lines.exists())


def test_a_trainer_that_was_stopped_counts_as_hanging(
    start: Callable[..., TrainingSession], settings: Settings
) -> None:
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    process_tree(RunDir(session.run_path))[0].suspend()
    settings.HANG_SECONDS = 1  # ten, if it was about to save
    job = work_until(session.pk, is_not_running)
    assert (job.state, job.error_code) == (State.QUEUED, "hung")


def test_without_space_a_session_waits_and_then_goes_on(
    start: Callable[..., TrainingSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start()
    monkeypatch.setattr(supervision, "has_space", lambda: False)
    claim()
    job = work_until(session.pk, is_not_running)
    assert (job.state, job.error_code) == (State.QUEUED, "disk_full")
    assert job.retry_at is not None
    assert "goes on by itself" in job.error
    monkeypatch.undo()
    Job.objects.update(retry_at=None)
    claim()
    assert work_until(session.pk, is_not_running).state == State.COMPLETED


def test_a_disk_that_stays_full_pauses_the_session_for_a_person(
    start: Callable[..., TrainingSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start()
    monkeypatch.setenv("FAILPOINTS", "1")
    monkeypatch.setenv("FAIL", "checkpoint.after_write:ENOSPC@2")
    for state in (State.QUEUED, State.QUEUED, State.PAUSED):
        Job.objects.update(retry_at=None)
        claim()
        job = work_until(session.pk, is_not_running)
        assert (job.state, job.error_code) == (state, "disk_full")
        # Only the first time a checkpoint was there to keep: later it is the first to fail.
        monkeypatch.setenv("FAIL", "checkpoint.after_write:ENOSPC")
    run = RunDir(session.run_path)
    assert [folder.name for folder in run.complete_checkpoints()] == ["step-000002"]
    assert "paused" in job.error
    monkeypatch.delenv("FAIL")
    services.resume_session(session, by=session.job.owner or User())
    claim()
    assert work_until(session.pk, is_not_running).state == State.COMPLETED
    assert session.epoch_metrics.count() == 3


def test_a_truncated_checkpoint_is_set_aside_and_the_one_before_used(
    start: Callable[..., TrainingSession],
) -> None:
    session = start({**QUICK, "epochs": 200})
    claim()
    work_until(session.pk, has_an_epoch)
    run = RunDir(session.run_path)
    kill(process_tree(run))
    newest = run.complete_checkpoints()[-1]
    os.truncate(newest / "model.safetensors", 10)
    work_until(session.pk, is_not_running)
    Job.objects.update(retry_at=None)
    claim()
    assert work_until(session.pk, is_not_running).state == State.COMPLETED
    assert session.epoch_metrics.count() == 200
    assert LogLine.objects.filter(job=session.job, message__contains="is damaged").exists()


def test_a_failure_of_the_configuration_is_told_in_a_sentence(
    start: Callable[..., TrainingSession],
) -> None:
    session = start({**QUICK, "loss_function": "mse", "task": "regression", "target": "label"})
    claim()
    job = work_until(session.pk, is_not_running)
    assert job.state == State.FAILED
    assert job.error_code in ("spec_error", "data_error")
    assert job.error


def test_shutting_down_puts_what_runs_back_into_the_queue(
    start: Callable[..., TrainingSession],
) -> None:
    session = start(LONG)
    claim()
    work_until(session.pk, has_an_epoch)
    tree = process_tree(RunDir(session.run_path))
    assert services.shutdown_running() == [session.pk]
    job = Job.objects.get(pk=session.pk)
    assert (job.state, job.error_code) == (State.QUEUED, "shutdown")
    wait_until(lambda: all(map(has_ended, tree)))


def test_abandoning_a_session_gives_its_processes_back(
    start: Callable[..., TrainingSession],
) -> None:
    session = start(LONG)
    claim()
    job = work_until(session.pk, has_an_epoch)
    tree = process_tree(RunDir(session.run_path))
    assert tree
    abandon(job)
    assert not RunDir(session.run_path).is_locked()
    wait_until(lambda: all(map(has_ended, tree)))


def test_a_base_model_that_was_deleted_meanwhile_ends_it_with_a_sentence(
    start: Callable[..., TrainingSession],
) -> None:
    session = start()
    session.config["base_model"] = "gone@1"
    session.save()
    job = work_until(claim().pk, lambda job: job.is_final)
    assert (job.state, job.error_code) == (State.FAILED, "base_model_not_found")
    assert "base_model 'gone@1' is not here" in job.error
