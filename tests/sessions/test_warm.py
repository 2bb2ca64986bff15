"""Trainings that a warm trainer starts: the same as cold ones, whatever becomes of it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from datasets.services import register_builtin
from jobs import services as jobs
from jobs.models import Job, State
from ml.environment import FOLDER_MARKER, MARKER
from ml.rundir import RunDir
from sessions import processes, services
from sessions.processes import process_tree, start_warm
from tests.ml.train.runs import events, make_flowers, make_run, train
from tests.servers import kill
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

LONG = 10_000
"""Epochs of a training that ends only when somebody ends it."""


@contextmanager
def warm_trainer() -> Iterator[tuple[psutil.Process, Path]]:
    """One that has imported everything, and its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trainer.sock"
        command = [sys.executable, "-P", "-m", "ml.train.warm", str(path)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            wait_until(lambda: path.exists() or process.poll() is not None)
            assert process.poll() is None
            yield psutil.Process(process.pid), path
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[psutil.Process, Path]]:
    with warm_trainer() as made:
        yield made


@pytest.fixture
def warm(shared: tuple[psutil.Process, Path], settings: Settings) -> psutil.Process:
    settings.WARM_TRAINER, settings.TRAINER_SOCKET = True, shared[1]
    return shared[0]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the warm trainer is quick enough is no question here."""
    monkeypatch.setattr(processes, "WARM_SECONDS", 60)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    for folder in [*tmp_path.glob("run*"), *(tmp_path / "runs_dir").iterdir()]:
        kill(process_tree(RunDir(folder)))
        wait_until(partial(is_free, RunDir(folder)))


def is_free(run: RunDir) -> bool:
    return not run.is_locked()


def ended(run: RunDir) -> bool:
    return run.read_exit(1) is not None and not run.is_locked()


def test_it_learns_the_very_same(warm: psutil.Process, tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    cold, run = (make_run(tmp_path / name, dataset, dropout=0.2) for name in ("run-1", "run-2"))
    train(cold)
    assert start_warm(run, 1, "run-2", {})
    wait_until(lambda: ended(run))
    assert (run.read_result(1) or {})["status"] == "completed"
    for name in ("model.safetensors", "preprocess.json"):
        assert (run.model_path / name).read_bytes() == (cold.model_path / name).read_bytes()
    assert (run.read_exit(1) or {})["max_rss_bytes"] > 50_000_000
    assert (run.attempt_path(1) / "stderr.log").read_text() == ""
    assert (run.path / "launcher.log").read_text() == ""


def test_its_processes_look_like_cold_ones(warm: psutil.Process, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"), epochs=LONG)
    assert start_warm(run, 1, "train_1", {"CUDA_VISIBLE_DEVICES": ""})
    wait_until(lambda: bool(events(run, 1, "step")))
    trainer, launcher = process_tree(run)
    assert launcher.cmdline()[1:] == ["-P", "-m", "ml.launch", str(run.path), "--attempt", "1"]
    assert trainer.cmdline()[1:] == ["-P", "-m", "ml.train", str(run.path), "--attempt", "1"]
    assert (launcher.environ()[MARKER], trainer.environ()[MARKER]) == ("train_1", "run")
    assert trainer.environ()[FOLDER_MARKER] == str(run.path)
    assert trainer.environ()["CUDA_VISIBLE_DEVICES"] == ""
    assert [os.getsid(each.pid) for each in (trainer, launcher)] == [trainer.pid, launcher.pid]
    trainer.kill()
    wait_until(lambda: ended(run))
    assert (run.read_exit(1) or {})["signal"] == signal.SIGKILL
    wait_until(lambda: not warm.children())


def test_a_launcher_that_is_asked_to_end_ends_its_trainer(
    warm: psutil.Process, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"), epochs=LONG)
    assert start_warm(run, 1, "train_1", {})
    processes.ask_to_end(run)  # at once: perhaps before there is a trainer
    wait_until(lambda: not run.is_locked() and not warm.children(recursive=True))


def test_two_at_once(warm: psutil.Process, tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    runs = [make_run(tmp_path / f"run-{number}", dataset) for number in range(2)]
    assert all(start_warm(run, 1, run.path.name, {}) for run in runs)
    wait_until(lambda: all(ended(run) for run in runs))
    models = [(run.model_path / "model.safetensors").read_bytes() for run in runs]
    assert models[0] == models[1]


def test_a_run_that_is_owned_already_is_left_alone(warm: psutil.Process, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"))
    lock = run.take_lock(1)
    assert not start_warm(run, 1, "train_1", {})
    os.close(lock)
    assert not run.attempt_path(1).exists()


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "LD_LIBRARY_PATH", "HF_HOME"])
def test_another_environment_starts_cold(warm: psutil.Process, tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "data"))
    assert not start_warm(run, 1, "train_1", {name: "7"})
    assert not run.is_locked()


def test_nonsense_is_hung_up_on(warm: psutil.Process, tmp_path: Path, settings: Settings) -> None:
    for nonsense in (b"\xff\n", b"[]\n", b"{}\n", b'{"run": 1, "attempt": "x"}\n', b""):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(settings.TRAINER_SOCKET))
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""


@pytest.mark.usefixtures("warm")
@pytest.mark.django_db
def test_a_session_that_is_cancelled_right_after_it_was_handed_over(
    owner: User, settings: Settings
) -> None:
    settings.SLICE_SECONDS = 0
    register_builtin("iris")
    session = services.start_session(owner=owner, config={"dataset": "iris", "epochs": LONG})
    assert jobs.claim_next("train")
    jobs.run_slice(session.pk)
    run = RunDir(session.run_path)
    assert run.is_locked()
    jobs.cancel_job(Job.objects.get(pk=session.pk))

    def is_cancelled() -> bool:
        jobs.run_slice(session.pk)
        return Job.objects.get(pk=session.pk).state == State.CANCELLED

    wait_until(is_cancelled)
    assert process_tree(run) == []


def test_what_it_started_outlives_it_and_without_it_sessions_start_cold(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_flowers(tmp_path / "data")
    first, late = (make_run(tmp_path / name, dataset, epochs=LONG) for name in ("run-1", "run-2"))
    with warm_trainer() as (warm, settings.TRAINER_SOCKET):
        assert start_warm(first, 1, "first", {})
        wait_until(lambda: bool(events(first, 1, "epoch")))
        warm.suspend()
        monkeypatch.setattr(processes, "WARM_SECONDS", 0.1)
        assert not start_warm(late, 1, "late", {})  # and what it is asked then, it never does
        warm.resume()
        wait_until(lambda: len(warm.children()) == 1)
        assert not late.attempt_path(1).exists()
    assert not start_warm(late, 1, "late", {})
    seen = len(events(first, 1, "epoch"))
    wait_until(lambda: len(events(first, 1, "epoch")) > seen)
