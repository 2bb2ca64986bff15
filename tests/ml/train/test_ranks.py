"""Several processes share one training, started by the launcher through torchrun."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ml.exits import EXIT_CODES
from ml.rundir import RunDir
from tests.ml.train.runs import (
    events,
    history,
    make_pictures,
    make_run,
    make_table,
    train,
    wait_for_events,
)

pytestmark = pytest.mark.slow
FIELDS: dict[str, Any] = {
    "architecture": "cnn",
    "channels": [4],
    "batch_size": 16,
    "dropout": 0,  # each process draws its own
    "epochs": 60,
}


def launch(run: RunDir, attempt: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "ml.launch", str(run.path), "--attempt", str(attempt)]
    return subprocess.Popen(command, cwd=run.path)


def ranks_of(launcher: subprocess.Popen[bytes]) -> list[psutil.Process]:
    ranks = []
    for process in psutil.Process(launcher.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # what a library asks the system by
            if "WORLD_SIZE" in process.environ():
                ranks.append(process)
    return ranks


def set_processes(run: RunDir, count: int) -> None:
    config = json.loads(run.config_path.read_text())
    run.create({**config, "num_processes": count})


def plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: pytest.approx(value, rel=1e-3) for name, value in record.items()}


def test_two_processes_are_paused_and_one_goes_on_as_if_it_had_always_been_alone(
    tmp_path: Path,
) -> None:
    dataset = make_pictures(tmp_path / "data")
    alone = make_run(tmp_path / "alone", dataset, **FIELDS)
    assert train(alone) == 0
    run = make_run(tmp_path / "run", dataset, **FIELDS, num_processes=2)
    launcher = launch(run)
    wait_for_events(run, 1, 2, launcher, "epoch")
    assert len(ranks_of(launcher)) == 2
    run.write_control("pause")
    assert launcher.wait() == 0
    assert (run.read_result(1) or {})["status"] == "paused"
    assert not run.is_locked()
    run.write_control("run")
    set_processes(run, 1)
    assert train(run, attempt=2) == 0
    [started] = events(run, 2, "started")
    assert started["resumed_from_step"] == events(run, 1, "paused")[0]["step"] > 0
    assert history(run, 2) == [plain(record) for record in history(alone, 1)]


def test_a_rank_that_is_killed_takes_the_others_along_and_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_pictures(tmp_path / "data"), **FIELDS, num_processes=2)
    launcher = launch(run)
    wait_for_events(run, 1, 1, launcher)
    [*_, last] = ranks = ranks_of(launcher)
    last.kill()
    launcher.wait()
    ended = run.read_exit(1) or {}
    assert (ended["signal"], ended["reason"]) == (9, "killed")
    assert run.read_result(1) is None
    assert not any(process.is_running() for process in ranks)


def test_a_failure_of_all_ranks_is_told_once_with_its_sentence(tmp_path: Path) -> None:
    dataset = make_table(tmp_path / "data", "x,label\n1,a\n2,a\n3,a\n")
    run = make_run(tmp_path / "run", dataset, num_processes=2)
    assert launch(run).wait() == EXIT_CODES["data_error"]
    assert "one class only" in (run.read_result(1) or {})["error"]["message"]
    assert (run.read_exit(1) or {})["reason"] == "data_error"
    assert len(events(run, type="failed")) == 1
