"""Every way to fail: an exit code, a `failed` event, a result and a sentence."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ml.exits import EXIT_CODES
from ml.rundir import RunDir, write_json
from ml.train import checkpoint, loop
from ml.train.errors import explain
from tests.ml.train.runs import (
    events,
    make_flowers,
    make_line,
    make_pictures,
    make_run,
    make_table,
    start,
    train,
    wait_for_events,
)


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    return make_flowers(tmp_path / "data")


def failure(run: RunDir, code: str) -> str:
    """Train, check that everything tells the same failure; returns its sentence."""
    assert train(run) == EXIT_CODES[code]
    result = run.read_result(1) or {}
    assert (result["status"], result["model"], result["error"]["code"]) == ("failed", None, code)
    [failed] = events(run, type="failed")
    assert {name: failed[name] for name in ("code", "message")} == result["error"]
    return str(result["error"]["message"])


def test_a_wrong_configuration_is_a_spec_error(tmp_path: Path, flowers: Path) -> None:
    run = make_run(tmp_path / "run", flowers, learning_rate=-0.1)
    message = "config.json: learning_rate must be greater than 0, got -0.1"
    assert failure(run, "spec_error") == message


def test_a_run_without_configuration_is_a_spec_error(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    assert "There is no" in failure(run, "spec_error")


def test_a_broken_configuration_file_is_a_spec_error(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.config_path.write_text("{")
    assert "config.json is not valid JSON" in failure(run, "spec_error")


def test_a_dataset_that_is_only_a_name_is_a_spec_error(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.create({"dataset": "digits"})
    assert "dataset must say where it lies" in failure(run, "spec_error")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": "cnn"}, "architecture cnn needs images"),
        ({"loss_function": "bce"}, "bce needs two classes; the target has 3"),
        ({"device": "cuda:7"}, "device cuda:7: this machine has"),
    ],
)
def test_what_does_not_fit_the_data_or_the_machine_is_a_spec_error(
    tmp_path: Path, flowers: Path, fields: dict[str, Any], words: str
) -> None:
    assert words in failure(make_run(tmp_path / "run", flowers, **fields), "spec_error")


def test_a_missing_dataset_is_a_data_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tmp_path / "nowhere")
    assert "nowhere" in failure(run, "data_error")


def test_an_unknown_target_is_a_data_error_that_names_it(tmp_path: Path, flowers: Path) -> None:
    run = make_run(tmp_path / "run", flowers, target="lable")
    assert "'lable'" in failure(run, "data_error")


def test_damaged_rows_are_a_data_error(tmp_path: Path, flowers: Path) -> None:
    rows = flowers / "rows.arrow"
    rows.write_bytes(rows.read_bytes()[:-20])
    message = failure(make_run(tmp_path / "run", flowers), "data_error")
    assert "stored rows of this dataset version are damaged" in message


def test_a_column_of_free_text_is_a_data_error_that_names_it(tmp_path: Path) -> None:
    rows = "".join(f"note {row},{row % 2}\n" for row in range(150))
    folder = make_table(tmp_path / "data", "remark,label\n" + rows)
    message = failure(make_run(tmp_path / "run", folder), "data_error")
    assert "Column 'remark' has 120 different texts; at most 100 can be categories" in message


def test_a_single_class_is_a_data_error(tmp_path: Path) -> None:
    folder = make_table(tmp_path / "data", "x,label\n1,a\n2,a\n3,a\n")
    run = make_run(tmp_path / "run", folder)
    assert "The target has one class only ('a')" in failure(run, "data_error")


def test_words_cannot_be_a_quantity(tmp_path: Path, flowers: Path) -> None:
    run = make_run(tmp_path / "run", flowers, task="regression")
    assert "must hold numbers for a regression" in failure(run, "data_error")


def test_a_loss_that_is_no_number_names_its_step(tmp_path: Path) -> None:
    dataset = make_line(tmp_path / "data")
    fields: dict[str, Any] = {"learning_rate": 10, "optimizer": "sgd", "max_grad_norm": None}
    run = make_run(tmp_path / "run", dataset, epochs=100, **fields)
    message = failure(run, "diverged")
    assert "at step " in message
    assert "try a smaller learning_rate" in message
    *before, last = events(run, type="step")
    assert all(event["loss"] is not None for event in before)
    assert last["loss"] is None  # a chart marks it
    assert f"at step {last['step']} " in message


def test_used_up_time_is_told_and_the_checkpoints_stay(tmp_path: Path, flowers: Path) -> None:
    run = make_run(tmp_path / "run", flowers, epochs=10_000, max_duration_seconds=4)
    assert "max_duration_seconds (4) was used up in epoch" in failure(run, "timed_out")
    assert run.complete_checkpoints()


def test_too_little_space_is_seen_before_a_checkpoint(
    tmp_path: Path, flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SPARE_BYTES", 10**18)
    message = failure(make_run(tmp_path / "run", flowers), "disk_full")
    assert message.startswith("The disk is full while writing")


def test_a_journal_on_a_full_disk_still_gives_the_exit_code(tmp_path: Path, flowers: Path) -> None:
    run = make_run(tmp_path / "run", flowers)
    run.attempt_path(1).mkdir()
    run.journal_path(1).symlink_to("/dev/full")
    assert train(run) == EXIT_CODES["disk_full"]


def test_an_unexpected_error_leaves_its_traceback(
    tmp_path: Path, flowers: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.delattr(loop.Training, "_step")
    message = failure(make_run(tmp_path / "run", flowers), "crashed")
    assert message.startswith("An unexpected AttributeError stopped the training")
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "gpu_out_of_memory"),
        (MemoryError(), "host_out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "host_out_of_memory"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "disk_full"),
        (OSError(errno.EACCES, "Permission denied", "x"), "crashed"),
    ],
)
def test_exceptions_have_words(error: Exception, code: str) -> None:
    assert explain(error).code == code


def test_memory_that_is_not_there_is_told(tmp_path: Path) -> None:
    dataset = make_pictures(tmp_path / "data", 20)
    fields: dict[str, Any] = {"architecture": "mlp", "hidden_sizes": [8192] * 16}
    run = make_run(tmp_path / "run", dataset, **fields)
    # 15 matrices of 256 MiB each: over the limit, whatever torch itself takes.
    command = f"ulimit -v {3 * 2**20}; exec {sys.executable} -P -m ml.train {run.path}"
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    child = subprocess.run(command, shell=True, env=environment, check=False, cwd=run.path)
    assert child.returncode == EXIT_CODES["host_out_of_memory"]
    assert (run.read_result(1) or {})["error"]["code"] == "host_out_of_memory"


def test_a_run_that_somebody_trains_already_is_refused(tmp_path: Path, flowers: Path) -> None:
    run = make_run(tmp_path / "run", flowers, epochs=10_000)
    child = start(run)
    wait_for_events(run, 1, 1, child)
    assert train(run, attempt=2) == EXIT_CODES["already_running"]
    child.kill()
    child.wait()


def test_a_newer_owner_makes_the_older_stop_without_writing(
    tmp_path: Path, flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", flowers)
    finish = loop.Training._finish_epoch

    def lose_the_lease(training: loop.Training) -> None:
        run.lock_path.unlink()
        write_json(run.lock_path, {"pid": 1, "attempt": 2, "host": "elsewhere"})
        finish(training)

    monkeypatch.setattr(loop.Training, "_finish_epoch", lose_the_lease)
    assert train(run) == EXIT_CODES["lost_lease"]
    assert not run.result_path.exists()
    assert run.complete_checkpoints() == []
