"""Training under supervision against the same training by hand, side by side.

    python benchmarks/bench_throughput.py        (SQLite in a temporary folder)

Goal (design, training.md): supervised at least 0.98 of the throughput of the bare trainer.
Rounds alternate, so that whatever else the machine does falls on both; compared are medians
of the seconds that the trainers themselves counted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="bench-")
os.environ["DJANGO_SETTINGS_MODULE"] = "mlserver.settings"
os.environ["LOG_LEVEL"] = "ERROR"  # the table alone

import django

django.setup()

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from datasets.models import DatasetVersion
from datasets.services import register_builtin
from jobs.models import Job, State
from jobs.services import claim_next, run_slice
from ml.rundir import RunDir
from sessions.run_config import run_config
from sessions.services import check_config, start_session

ROUNDS, GOAL = 5, 0.98
CONFIG = {"dataset": "digits28", "epochs": 4, "batch_size": 64, "device": "cpu", "seed": 1}


def main() -> None:
    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("bench")
    version = register_builtin("digits28")
    bare, supervised = [], []
    for number in range(ROUNDS):
        bare.append(train_bare(version, number))
        supervised.append(train_supervised(owner))
    samples = CONFIG["epochs"] * 0.8 * version.sample_count  # type: ignore[operator]
    rates = [samples / statistics.median(seconds) for seconds in (bare, supervised)]
    print("| what | samples/s (median) | goal | ratio |\n|---|---|---|---|")
    print(f"| bare trainer | {rates[0]:,.0f} | – | 1.00 |")
    print(f"| under supervision | {rates[1]:,.0f} | ≥ {GOAL} of it | {rates[1] / rates[0]:.3f} |")


def train_bare(version: DatasetVersion, number: int) -> float:
    """`python -m ml.train RUN_DIR`, nobody watching; the seconds it counted."""
    run = RunDir(settings.RUNS_DIR / f"bare-{number}")
    run.create(run_config("", check_config(CONFIG).to_dict(), version))
    command = [sys.executable, "-P", "-m", "ml.train", str(run.path)]
    subprocess.run(command, check=True, cwd=run.path, env=environment())
    return seconds_of(run)


def environment() -> dict[str, str]:
    """As a launcher's trainer has it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONSAFEPATH": "1", "GOMP_SPINCOUNT": "10000"}


def train_supervised(owner: User) -> float:
    """A session with its launcher, and slices that read its journal into the database."""
    session = start_session(owner=owner, config=CONFIG)
    job = claim_next("train")
    assert job is not None
    while job.state == State.RUNNING:
        run_slice(job.pk)
        job = Job.objects.get(pk=job.pk)
    assert job.state == State.COMPLETED, job.error
    return seconds_of(RunDir(session.run_path))


def seconds_of(run: RunDir) -> float:
    result = run.read_result(1)
    assert result is not None
    return float(result["duration_seconds"])


if __name__ == "__main__":
    main()
