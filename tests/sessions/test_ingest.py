from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.leases import Lease, LeaseLost
from jobs.models import Job, LogLine, State
from ml.rundir import Journal, RunDir
from sessions.ingest import ingest
from sessions.metrics import read_series
from sessions.models import EpochMetric, MetricPoint, TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def session() -> TrainingSession:
    return factories.session(state=State.RUNNING, attempt=1, lease_owner="me")


@pytest.fixture
def run(session: TrainingSession) -> RunDir:
    return RunDir(session.run_path)


@pytest.fixture
def lease(session: TrainingSession) -> Lease:
    return Lease(session.pk, 1, "me")


@pytest.fixture
def journal(run: RunDir) -> Journal:
    return Journal(run.journal_path(1), attempt=1)


def started(journal: Journal, **more: Any) -> None:
    fresh = {"resumed_from_epoch": 0, "resumed_from_step": 0, "history": []}
    journal.write("started", **{**fresh, "total_epochs": 3, "total_steps": 30, **more})


def epoch(number: int, **more: Any) -> dict[str, Any]:
    values = {"loss": 1 / number, "accuracy": 0.5, "val_loss": None, "val_accuracy": None}
    return {"epoch": number, "extra": {}, **values, **more}


def test_events_become_rows(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal
) -> None:
    started(journal)
    journal.write("step", step=10, epoch=1, loss=0.9, learning_rate=0.1, grad_norm=1.0)
    journal.write("epoch", **epoch(1))
    assert ingest(session, run, lease)
    session.refresh_from_db()
    assert (session.current_epoch, session.current_step, session.total_steps) == (1, 10, 30)
    assert Job.objects.get(pk=session.pk).progress == pytest.approx(100 / 3)
    assert read_series(session, "loss").values == [0.9]
    assert EpochMetric.objects.get().loss == 1.0
    assert LogLine.objects.count() == 2


def test_nothing_new_writes_nothing(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal
) -> None:
    started(journal)
    assert ingest(session, run, lease)
    assert not ingest(session, run, lease)
    assert LogLine.objects.count() == 1


def test_a_torn_last_line_waits_for_its_end(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal
) -> None:
    started(journal)
    with run.journal_path(1).open("a") as file:
        file.write('{"type": "step", "st')
    assert ingest(session, run, lease)
    assert not ingest(session, run, lease)


def test_history_fills_the_epochs_that_the_database_lacks(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal
) -> None:
    EpochMetric.objects.create(session=session, epoch=1, loss=1.0)
    started(journal, resumed_from_epoch=2, resumed_from_step=20, history=[epoch(1), epoch(2)])
    ingest(session, run, lease)
    assert list(EpochMetric.objects.values_list("epoch", flat=True)) == [1, 2]
    session.refresh_from_db()
    assert session.current_epoch == 2


def test_a_resumed_attempt_overwrites_the_points_that_it_repeats(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal
) -> None:
    MetricPoint.objects.create(session=session, key="loss", step=5, value=99)
    started(journal)
    journal.write("step", step=5, epoch=1, loss=0.5)
    ingest(session, run, lease)
    assert read_series(session, "loss").values == [0.5]


def test_a_supervisor_without_its_lease_writes_nothing(
    session: TrainingSession, run: RunDir, journal: Journal
) -> None:
    started(journal)
    journal.write("epoch", **epoch(1))
    with pytest.raises(LeaseLost):
        ingest(session, run, Lease(session.pk, 1, "somebody else"))
    assert not EpochMetric.objects.exists()
    assert not LogLine.objects.exists()


def test_lines_that_are_not_understood_are_told_and_do_not_stop_the_rest(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal
) -> None:
    started(journal)
    with run.journal_path(1).open("a") as file:
        file.write('nonsense\n{"type": "step"}\n{"type": "tomorrow"}\n')
    journal.write("epoch", **epoch(1))
    ingest(session, run, lease)
    assert EpochMetric.objects.count() == 1
    assert LogLine.objects.filter(level="warning").count() == 3


def test_a_long_series_is_reduced_and_keeps_its_spikes(session: TrainingSession) -> None:
    MetricPoint.objects.bulk_create(
        MetricPoint(session=session, key="loss", step=step, value=1000.0 if step == 777 else 1.0)
        for step in range(1, 5001)
    )
    series = read_series(session, "loss", max_points=100)
    assert len(series.steps) <= 100
    assert series.maximum is not None
    assert max(value or 0 for value in series.maximum) == 1000
    assert series.steps[-1] == 5000


def test_a_series_can_be_read_from_a_step_on(session: TrainingSession) -> None:
    for step in (1, 2, 3):
        MetricPoint.objects.create(session=session, key="loss", step=step, value=step)
    assert read_series(session, "loss", after=1).steps == [2, 3]


def test_the_run_lies_under_the_runs_directory(session: TrainingSession, tmp_path: Path) -> None:
    assert session.run_path.is_relative_to(tmp_path)


def test_sampled_answers_are_kept_and_shown(
    session: TrainingSession, run: RunDir, lease: Lease, journal: Journal, owner: User
) -> None:
    sample = {"prompt": "<b>add</b> 1 2", "generated": "is 4", "expected": "is 3"}
    journal.write("sample", epoch=2, samples=[sample])
    assert ingest(session, run, lease)
    session.refresh_from_db()
    assert session.summary["samples"] == {"epoch": 2, "samples": [sample]}
    client = Client(headers={"accept": "text/html"})
    client.force_login(owner)
    page = client.get(f"/sessions/{session.pk}/").content.decode()
    assert "&lt;b&gt;add&lt;/b&gt; 1 2" in page
    assert "validation after epoch 2" in page
