"""Training under supervision against the same training by hand, side by side.

    python -m benchmarks.bench_throughput --rounds 6      (SQLite in a temporary folder)

Goal (design, training.md): supervised at least 0.98 of the throughput of the bare trainer.
Both sides of a round run one after the other, now the one first and now the other, so that
whatever else the machine does falls on both; what counts is the median of the rounds' ratios.
On a busy machine the seconds of a clock say little even so: then look at those of the CPU, which
are the trainer's own from its configuration to its model, and at the supervisor's.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="bench-")
os.environ["DJANGO_SETTINGS_MODULE"] = "mlserver.settings"
os.environ["LOG_LEVEL"] = "ERROR"  # the table alone
os.environ["WARM_TRAINER"] = "0"  # that of another server would import beforehand

import django

django.setup()

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from benchmarks.figures import begin, tell
from datasets.models import DatasetVersion
from datasets.services import register_builtin
from jobs.models import Job, State
from jobs.services import claim_next, run_slice
from ml.environment import SLEEP_EARLY
from ml.rundir import RunDir
from sessions.run_config import run_config
from sessions.services import check_config, start_session

ROUNDS, GOAL = 6, 0.98
CONFIG = {"dataset": "digits28", "epochs": 8, "batch_size": 64, "device": "cpu", "seed": 1}


@dataclass(frozen=True)
class Cost:
    """Seconds of one training."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    count = parser.parse_args().rounds
    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("bench")
    version = register_builtin("digits28")
    rounds: list[tuple[Cost, Cost]] = []
    own, passed = 0.0, 0.0
    for number in range(count):
        if number % 2 == 0:
            bare = train_bare(version, number)
        began, cpu = time.monotonic(), time.process_time()
        supervised = train_supervised(owner)
        own, passed = own + time.process_time() - cpu, passed + time.monotonic() - began
        if number % 2 == 1:
            bare = train_bare(version, number)
        rounds.append((bare, supervised))
    begin()
    row("throughput under supervision / bare", [bare.wall / other.wall for bare, other in rounds])
    row(
        "the same in seconds of the trainer's CPU", [bare.cpu / other.cpu for bare, other in rounds]
    )
    samples = CONFIG["epochs"] * 0.8 * version.sample_count  # type: ignore[operator]
    fastest = samples / min(bare.wall for bare, _ in rounds)
    print(f"\nThe bare trainer takes {fastest:,.0f} samples/s at best; ", end="")
    print(f"the supervisor takes {own / passed:.1%} of a CPU.")


def row(what: str, ratios: list[float]) -> None:
    each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    tell(what, statistics.median(ratios), at_least=GOAL, more=each)


def train_bare(version: DatasetVersion, number: int) -> Cost:
    """`python -m ml.train RUN_DIR`, nobody watching."""
    run = RunDir(settings.RUNS_DIR / f"bare-{number}")
    run.create(run_config("", check_config(CONFIG).to_dict(), version))
    command = [sys.executable, "-P", "-m", "ml.train", str(run.path)]
    subprocess.run(command, check=True, cwd=run.path, env=environment())
    return cost_of(run)


def environment() -> dict[str, str]:
    """As a launcher's trainer has it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONSAFEPATH": "1", **SLEEP_EARLY}


def train_supervised(owner: User) -> Cost:
    """A session with its launcher, and slices that read its journal into the database."""
    session = start_session(owner=owner, config=CONFIG)
    job = claim_next("train")
    assert job is not None
    while job.state == State.RUNNING:
        run_slice(job.pk)
        job = Job.objects.get(pk=job.pk)
    assert job.state == State.COMPLETED, job.error
    return cost_of(RunDir(session.run_path))


def cost_of(run: RunDir) -> Cost:
    result = run.read_result(1)
    assert result is not None
    return Cost(float(result["duration_seconds"]), float(result["cpu_seconds"]))


if __name__ == "__main__":
    main()
