"""The trainer's edge: `python -m ml.train RUN_DIR`. Every way to end becomes files and a code.

It owns the run's lock, either its own (started by hand) or the launcher's.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.metadata
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ml import failpoints
from ml.config import FeaturesConfig, GradientConfig, TrainingConfig, parse_config
from ml.environment import LOCK_VARIABLE
from ml.exits import EXIT_CODES, SENTENCES
from ml.fields import ConfigError
from ml.launch import die_with_parent
from ml.rundir import Journal, LockHeld, RunDir, read_json, write_json
from ml.train.control import Control
from ml.train.errors import Cancelled, LostLease, Paused, TrainingFailed, explain
from ml.train.loop import Training
from ml.train.prepared import FOLDER
from ml.train.ranks import LostRank, Ranks, join, leave
from ml.train.recipes import make_task
from ml.train.steps import available_cpus, choose_device, make_deterministic
from ml.train.task import Task

if TYPE_CHECKING:
    from ml.train.recipes.features import FeaturesTraining


TORCHRUN_SECONDS = 60
"""It ends the other ranks within a second of the first one's end; a busy machine takes longer."""


class Trainer:
    """One attempt: from config.json to result.json.

    Of several ranks only the first has a journal, and writes how it ended.
    """

    def __init__(self, run: RunDir, attempt: int, journal: Journal | None, ranks: Ranks) -> None:
        self.run = run
        self.attempt = attempt
        self.journal = journal
        self.ranks = ranks
        self.control = Control(run)
        self.training: Training | FeaturesTraining | None = None
        self.began, self.cpu_before = time.monotonic(), time.process_time()

    def attempt_it(self) -> int:
        """Train, tell how it ended, and return the exit code."""
        try:
            metrics = self._train()
        except Paused:
            progress = self._started().progress
            self._tell("paused", epoch=progress.epoch, step=progress.step)
            return self._end("paused", self._last_metrics())
        except Cancelled:
            return self._end("cancelled", self._last_metrics())
        except LostLease as lost:
            print(f"{SENTENCES['lost_lease']} ({lost})", file=sys.stderr)  # noqa: T201
            return EXIT_CODES["lost_lease"]
        except LostRank:
            traceback.print_exc()
            time.sleep(TORCHRUN_SECONDS)
            return EXIT_CODES["crashed"]
        # The edge: whatever it is, the session must learn how it ended.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            return self._fail(explain(error), is_shared=isinstance(error, TrainingFailed))
        epochs = self._started().progress.epoch
        self._tell("completed", epochs=epochs, metrics=metrics)
        return self._end("completed", metrics, model="model")

    def _train(self) -> dict[str, Any]:
        config = self._read_config()
        if isinstance(config, FeaturesConfig):
            return self._train_features(config)
        if not isinstance(config, GradientConfig):
            raise TypeError(f"recipe {config.recipe} has no trainer")
        make_deterministic()
        device = choose_device(config.device, self.ranks.rank)
        self._tell("environment", **describe_environment(device))
        task = self._make_task(config, device)
        for sentence in task.describe():
            self._log(sentence)
        rows = f"{len(task.train_rows)} rows to learn from"
        self._log(f"{rows}, {len(task.validation_rows)} held back for validation")
        if self.ranks.size > 1:
            self._log(f"{self.ranks.size} processes share the rows of each step")
        self.training = Training(self.run, self.attempt, config, task, self.journal, self.ranks)
        return self.training.train()

    def _train_features(self, config: FeaturesConfig) -> dict[str, Any]:
        from ml.train.recipes.features import FeaturesTraining  # scikit-learn takes a second

        self._tell("environment", **describe_environment(torch.device("cpu")))
        if self.journal is None:
            raise TypeError("recipe features knows no ranks")
        self.training = FeaturesTraining(self.run, config, self.journal)
        return self.training.train()

    def _make_task(self, config: GradientConfig, device: torch.device) -> Task:
        """The first rank goes first: what is wrong, or fetched from afar, concerns it alone."""
        if not self.ranks.is_first:
            self.ranks.collect(None)
        torch.manual_seed(config.seed)
        task = make_task(config, self.run.path, device, self._warn, self._check)
        if self.ranks.is_first:
            self.ranks.collect(None)
        return task

    def _check(self) -> None:
        """Large data takes a while: nobody shall take it for a hang, or wait to cancel it."""
        if self.control.wanted() == "cancel":
            raise Cancelled

    def _read_config(self) -> TrainingConfig:
        try:
            found = read_json(self.run.config_path)
            if found is None:
                raise TrainingFailed("spec_error", f"There is no {self.run.config_path}.")
            return parse_config(found)
        except ConfigError as error:
            raise TrainingFailed("spec_error", f"config.json: {error}") from error
        except ValueError as error:
            raise TrainingFailed("spec_error", str(error)) from error

    def _fail(self, failure: TrainingFailed, *, is_shared: bool) -> int:
        """`is_shared`: every rank fails so, and waits until the first one has said it."""
        error = {"code": failure.code, "message": failure.message}
        try:
            self._tell("failed", **error)
            self._write_result("failed", self._last_metrics(), error=error)
        except OSError:  # the disk is too full even to say so: the exit code still does
            traceback.print_exc()
        if is_shared:
            leave(self.ranks)
        return EXIT_CODES[failure.code]

    def _end(self, status: str, metrics: dict[str, Any], model: str | None = None) -> int:
        self._write_result(status, metrics, model=model)
        leave(self.ranks)
        return 0

    def _write_result(
        self,
        status: str,
        metrics: dict[str, Any],
        *,
        model: str | None = None,
        error: dict[str, str] | None = None,
    ) -> None:
        if not self.ranks.is_first:
            return
        training = self.training
        seconds = training.elapsed() if training else time.monotonic() - self.began
        result = {
            "status": status,
            "attempt": self.attempt,
            "epochs": training.progress.epoch if training else 0,
            "metrics": metrics,
            "model": model,
            "duration_seconds": round(seconds, 3),
            "cpu_seconds": round(time.process_time() - self.cpu_before, 3),
            "energy_joules": None,
            "error": error,
        }
        if status != "paused":  # only a training that goes on needs them
            shutil.rmtree(self.run.path / FOLDER, ignore_errors=True)
        failpoints.hit("result.before_write")
        write_json(self.run.result_path, result)
        failpoints.hit("result.after_write")

    def _started(self) -> Training | FeaturesTraining:
        if self.training is None:
            raise RuntimeError("nothing was trained")
        return self.training

    def _last_metrics(self) -> dict[str, Any]:
        history = self.training.progress.history if self.training else []
        if not history:
            return {}
        return {
            name: value
            for name, value in history[-1].items()
            if name not in ("epoch", "extra") and value is not None
        }

    def _tell(self, type: str, **fields: Any) -> None:
        if self.journal is not None:
            self.journal.write(type, **fields)

    def _log(self, message: str) -> None:
        self._tell("log", level="info", message=message)

    def _warn(self, message: str) -> None:
        self._tell("warning", message=message)


def describe_environment(device: torch.device) -> dict[str, Any]:
    packages = ("numpy", "safetensors", "pyarrow", "transformers")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "ml_version": importlib.metadata.version("mlserver-django"),
        "packages": {package: importlib.metadata.version(package) for package in packages},
        "cpu_count": available_cpus(),
        "pid": os.getpid(),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ml.train", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, help="default: the next number")
    options = parser.parse_args(arguments)
    run = RunDir(options.run_dir.resolve())
    if not run.path.is_dir():
        parser.error(f"there is no run directory {run.path}")
    attempt: int = options.attempt or run.next_attempt()
    faulthandler.register(signal.SIGUSR1)  # the supervisor asks one that hangs where it is
    if "WORLD_SIZE" in os.environ:  # torchrun holds the lock for all
        code = train_rank(run, attempt)
        sys.stderr.flush()
        os._exit(code)  # everything is written; gloo's threads may abort an orderly end
    inherited = os.environ.pop(LOCK_VARIABLE, None)
    try:
        lock = run.take_lock(attempt, int(inherited) if inherited else None)
    except LockHeld:
        print(f"{run.path}: {SENTENCES['already_running']}", file=sys.stderr)  # noqa: T201
        return EXIT_CODES["already_running"]
    try:
        return attempt_run(run, attempt, Ranks())
    finally:
        os.close(lock)


def train_rank(run: RunDir, attempt: int) -> int:
    """One of several processes; it dies with torchrun."""
    die_with_parent(os.getppid())()
    ranks = join()
    if ranks.is_first:
        return attempt_run(run, attempt, ranks)
    return Trainer(run, attempt, None, ranks).attempt_it()


def attempt_run(run: RunDir, attempt: int, ranks: Ranks) -> int:
    try:
        with Journal(run.journal_path(attempt), attempt) as journal:
            return Trainer(run, attempt, journal, ranks).attempt_it()
    except OSError as error:  # not even the journal could be written; the exit code still tells
        traceback.print_exc()
        return EXIT_CODES[explain(error).code]


if __name__ == "__main__":
    sys.exit(main())
