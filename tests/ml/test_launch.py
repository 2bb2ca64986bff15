"""ml.launch with real processes: one owner, no orphans, and how it ended in exit.json."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ml.environment import FOLDER_MARKER, MARKER
from ml.exits import explain_exit, explain_signal
from ml.rundir import RunDir, read_json, write_json
from tests.ml.train.runs import events, make_flowers, make_run
from tests.waiting import has_ended, wait_until

LONG = 10_000
"""Epochs of a training that ends only when somebody ends it."""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_flowers(tmp_path / "data")


@pytest.fixture
def launchers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for launcher in started:
        if launcher.poll() is None:
            launcher.kill()
        launcher.wait()
        if launcher.stderr is not None:
            launcher.stderr.close()


def launch(
    run: RunDir, launchers: list[subprocess.Popen[bytes]], attempt: int = 1
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "ml.launch", str(run.path), "--attempt", str(attempt)]
    launchers.append(subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE))
    return launchers[-1]


def trainer_of(run: RunDir, launcher: subprocess.Popen[bytes], attempt: int = 1) -> psutil.Process:
    """The trainer, once it has taken a step."""
    while not events(run, attempt, "step"):
        assert launcher.poll() is None, (run.attempt_path(attempt) / "stderr.log").read_text()
        time.sleep(0.02)
    return psutil.Process(events(run, attempt, "environment")[0]["pid"])


def test_a_finished_training_is_told_with_its_peak_memory(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=1)
    write_json(run.result_path, {"status": "failed", "attempt": 1})
    write_json(run.exit_path, {"attempt": 1})
    assert launch(run, launchers, attempt=2).wait() == 0
    ended = run.read_exit(2) or {}
    assert (ended["exit_code"], ended["signal"], ended["reason"]) == (0, None, "ended")
    assert ended["max_rss_bytes"] > 50_000_000
    assert (run.read_result(2) or {})["status"] == "completed"
    assert not run.is_locked()
    assert (run.attempt_path(2) / "stderr.log").read_text() == ""


def test_a_failure_is_told_in_words(
    tmp_path: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", tmp_path / "nowhere")
    assert launch(run, launchers).wait() == 76
    ended = run.read_exit(1) or {}
    assert (ended["exit_code"], ended["reason"]) == (76, "data_error")


def test_a_killed_trainer_is_explained(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=LONG)
    launcher = launch(run, launchers)
    trainer_of(run, launcher).kill()
    assert launcher.wait() == 128 + signal.SIGKILL
    ended = run.read_exit(1) or {}
    assert (ended["exit_code"], ended["signal"], ended["reason"]) == (None, 9, "killed")
    assert "SIGKILL: perhaps the kernel's out-of-memory killer" in ended["sentence"]


def test_sigterm_to_the_launcher_ends_the_trainer_and_is_told(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=LONG)
    launcher = launch(run, launchers)
    trainer = trainer_of(run, launcher)
    launcher.terminate()
    launcher.wait()
    wait_until(lambda: has_ended(trainer))  # when it is scheduled
    ended = run.read_exit(1) or {}
    assert ended["reason"] == "killed"
    assert "its launcher received SIGTERM" in ended["sentence"]
    assert not run.is_locked()


def test_a_trainer_that_does_not_listen_is_killed_after_sigterm(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=LONG)
    launcher = launch(run, launchers)
    trainer = trainer_of(run, launcher)
    trainer.suspend()  # a stopped process does not act on SIGTERM
    while trainer.status() != psutil.STATUS_STOPPED:  # of two waiting signals SIGTERM goes first
        time.sleep(0.01)
    launcher.terminate()
    launcher.wait()
    wait_until(lambda: has_ended(trainer))  # when it is scheduled
    assert (run.read_exit(1) or {})["signal"] == signal.SIGKILL


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_no_trainer_outlives_a_launcher_that_is_killed(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]], kill: Any
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=LONG)
    launcher = launch(run, launchers)
    trainer = trainer_of(run, launcher)
    assert run.is_locked()
    kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    # A zombie may still have threads that end, and with the last of them goes the lock.
    wait_until(lambda: has_ended(trainer) and not run.is_locked())
    assert run.read_exit(1) is None


def test_a_second_launcher_is_refused_and_the_first_goes_on(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=LONG)
    first = launch(run, launchers)
    trainer = trainer_of(run, first)
    second = launch(run, launchers, attempt=2)
    _, said = second.communicate()
    assert second.returncode == 73
    assert b"Another process is training" in said
    assert trainer.is_running()
    assert (run.lock_owner() or {})["pid"] == first.pid


def test_leftovers_with_the_marker_of_the_run_are_ended(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    """As a worker of torchrun would be: in a session of its own, its parent gone."""
    run = make_run(tmp_path / "train_leftover", dataset, epochs=1)
    environment = {**os.environ, FOLDER_MARKER: str(run.path)}
    leftover = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], env={**os.environ, FOLDER_MARKER: "/another"})
    launch(run, launchers).wait()
    assert leftover.wait() == -signal.SIGKILL
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_children_see_only_the_safe_path_and_the_run_as_their_folder(
    tmp_path: Path, dataset: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = make_run(tmp_path / "run", dataset, epochs=LONG)
    trainer = trainer_of(run, launch(run, launchers))
    environment = trainer.environ()
    assert environment["PYTHONSAFEPATH"] == "1"
    assert (environment[MARKER], environment[FOLDER_MARKER]) == ("run", str(run.path))
    assert "PYTHONPATH" not in environment
    assert trainer.cwd() == str(run.path)


def test_a_run_directory_that_is_not_there_is_an_error_of_usage(
    tmp_path: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    _, said = launch(RunDir(tmp_path / "nowhere"), launchers).communicate()
    assert b"there is no run directory" in said


def test_a_broken_configuration_is_the_trainers_to_tell(
    tmp_path: Path, launchers: list[subprocess.Popen[bytes]]
) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.config_path.write_text("[]")
    assert launch(run, launchers).wait() == 65
    assert (read_json(run.result_path) or {})["error"]["code"] == "spec_error"


def test_exit_codes_and_signals_become_sentences() -> None:
    assert explain_exit(0)[0] == "ended"
    assert explain_exit(77) == (
        "gpu_out_of_memory",
        "The GPU memory was not enough; try a smaller batch_size.",
    )
    assert explain_exit(3) == (
        "crashed",
        "The trainer ended with exit code 3; stderr.log may say why.",
    )
    assert explain_signal(signal.SIGSEGV)[0] == "crashed"
    assert explain_signal(signal.SIGTERM)[0] == "killed"
    assert explain_signal(40) == ("crashed", "The trainer was ended by signal 40.")
