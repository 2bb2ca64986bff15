"""Dense metrics: points a second into the database, milliseconds for a reduced series.

    python -m benchmarks.bench_metrics        (SQLite in a temporary folder)

Goals (design, training.md): at least 20,000 points/s in batches; a series of 20,000 points
reduced to 1,000 buckets in at most 100 ms.
"""

import os
import statistics
import tempfile
import time

os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="bench-")
os.environ["DJANGO_SETTINGS_MODULE"] = "mlserver.settings"

import django

django.setup()

from django.core.management import call_command

from benchmarks.figures import begin, tell
from jobs.leases import Lease
from jobs.models import Job, State
from ml.rundir import Journal, RunDir
from sessions.ingest import ingest
from sessions.metrics import read_series
from sessions.models import MetricPoint, TrainingSession

POINTS, ROUNDS, GOAL_RATE, GOAL_READ_MS = 20_000, 5, 20_000, 100


def main() -> None:
    call_command("migrate", verbosity=0)
    rates = [measure_ingest(number) for number in range(ROUNDS)]
    session = TrainingSession.objects.earliest("pk")
    reads = [measure_read(session) for _ in range(20)]
    rate, read_ms = statistics.median(rates), statistics.median(reads)
    begin()
    tell("journal to database", rate, "points/s", at_least=GOAL_RATE)
    tell("read of 20,000 points as 1,000", read_ms, "ms", at_most=GOAL_READ_MS)


def measure_ingest(number: int) -> float:
    """A journal with one loss a step, from the file into the table."""
    job = Job.objects.create(
        id=f"bench_{number}", kind="train", state=State.RUNNING, attempt=1, lease_owner="bench"
    )
    session = TrainingSession.objects.create(job=job, recipe="network", total_epochs=1)
    run = RunDir(session.run_path)
    with Journal(run.journal_path(1), 1) as journal:
        for step in range(1, POINTS // 2 + 1):
            journal.write("step", step=step, epoch=1, loss=1 / step, learning_rate=0.001)
    began = time.perf_counter()
    while ingest(session, run, Lease(job.pk, 1, "bench")):
        pass
    seconds = time.perf_counter() - began
    MetricPoint.objects.bulk_create(
        MetricPoint(session=session, key="dense", step=step, value=1 / step)
        for step in range(1, POINTS + 1)
    )
    return POINTS / seconds


def measure_read(session: TrainingSession) -> float:
    began = time.perf_counter()
    series = read_series(session, "dense", max_points=1000)
    assert len(series.steps) <= 1000
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
