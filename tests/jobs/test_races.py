"""Several processes at once, on real database files and servers."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import (
    environment,
    manage,
    postgres_answers,
    postgres_database,
    run_django,
    start_django,
)
from tests.waiting import PATIENCE_SECONDS

QUEUE_300 = """
from jobs.services import create_job
for _ in range(300):
    create_job("train", owner=None, spec={})
"""
CLAIM_ALL = """
import json
from jobs.services import claim_next
claimed = []
while (job := claim_next("train")) is not None:
    claimed.append(job.pk)
print(json.dumps(claimed))
"""
TWO_DEMOS = """
from jobs.services import claim_next, create_job
for preemptible in (True, True, False):
    create_job("train", owner=None, spec={}, preemptible=preemptible)
    claim_next("train") if preemptible else None
"""
COUNT_YIELDING = """
import json
from jobs.models import Job
print(json.dumps(Job.objects.filter(yielding=True).count()))
"""
WRITE = """
from jobs.models import Job, LogLine
job = Job.objects.get()
for number in range(50):
    LogLine.objects.create(job=job, message=f"line {number}")
    Job.objects.filter(pk=job.pk).update(progress=number)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield environment(tmp_path, MAX_CONCURRENT_SESSIONS="1000")
        return
    if not postgres_answers():
        pytest.skip("no PostgreSQL answers on 127.0.0.1:5432")
    with postgres_database() as url:
        yield environment(tmp_path, MAX_CONCURRENT_SESSIONS="1000", DATABASE_URL=url)


@pytest.mark.slow
def test_four_processes_claim_each_of_300_sessions_exactly_once(env: dict[str, str]) -> None:
    manage("migrate", "--verbosity", "0", env=env)
    run_django(QUEUE_300, env)
    claimers = [start_django(CLAIM_ALL, env) for _ in range(4)]
    claimed = [json.loads(claimer.communicate(timeout=PATIENCE_SECONDS)[0]) for claimer in claimers]
    counts = Counter(job_id for ids in claimed for job_id in ids)
    assert len(counts) == 300
    assert set(counts.values()) == {1}


@pytest.mark.slow
def test_four_processes_never_share_a_single_seat(env: dict[str, str]) -> None:
    env["MAX_CONCURRENT_SESSIONS"] = "1"
    manage("migrate", "--verbosity", "0", env=env)
    run_django(QUEUE_300.replace("300", "20"), env)
    claimers = [start_django(CLAIM_ALL, env) for _ in range(4)]
    claimed = [json.loads(claimer.communicate(timeout=PATIENCE_SECONDS)[0]) for claimer in claimers]
    assert sorted(len(ids) for ids in claimed) == [0, 0, 0, 1]


@pytest.mark.slow
def test_four_processes_ask_for_one_seat_once(env: dict[str, str]) -> None:
    """Two demos run, one person waits: one demo yields, and the person gets no seat twice."""
    env["MAX_CONCURRENT_SESSIONS"] = "2"
    manage("migrate", "--verbosity", "0", env=env)
    run_django(TWO_DEMOS, env)
    claimers = [start_django(CLAIM_ALL, env) for _ in range(4)]
    claimed = [json.loads(claimer.communicate(timeout=PATIENCE_SECONDS)[0]) for claimer in claimers]
    assert claimed == [[], [], [], []]
    assert run_django(COUNT_YIELDING, env) == 1


@pytest.mark.slow
def test_sixteen_writers_never_find_the_database_locked(tmp_path: Path) -> None:
    env = environment(tmp_path)
    manage("migrate", "--verbosity", "0", env=env)
    run_django(QUEUE_300.replace("300", "1"), env)
    writers = [start_django(WRITE, env) for _ in range(16)]
    assert [writer.wait(PATIENCE_SECONDS) for writer in writers] == [0] * 16
    for writer in writers:
        writer.communicate()
    count = (
        "import json\nfrom jobs.models import LogLine\nprint(json.dumps(LogLine.objects.count()))"
    )
    assert run_django(count, env) == 16 * 50
