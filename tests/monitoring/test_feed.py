from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobs.models import Job, LogLine, State
from mlserver.lib.errors import Invalid, NotFound
from monitoring import feed as feed_module
from monitoring.alerts import acknowledge
from monitoring.feed import Event, Feed, parse_topics
from monitoring.models import Alert, ProcessTable
from sessions.models import EpochMetric, MetricPoint, TrainingSession
from tests import factories
from tests.monitoring.rows import host_sample
from tests.pages.machine_scene import alert

pytestmark = pytest.mark.django_db


@pytest.fixture
def session() -> TrainingSession:
    return factories.session(state=State.RUNNING)


def touch(session: TrainingSession, **values: Any) -> None:
    Job.objects.filter(pk=session.pk).update(updated_at=timezone.now(), **values)


def opened(*topics: str) -> tuple[Feed, frozenset[str]]:
    """A feed that has told what was there before."""
    feed, wanted = Feed(), frozenset(topics)
    feed.open(wanted)
    feed.read(wanted)
    return feed, wanted


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def test_a_new_sample_is_told_once() -> None:
    host_sample(cpu_percent=1.0)
    feed, topics = opened("system")
    host_sample(cpu_percent=2.0)
    [event] = feed.read(topics)
    assert (event.topic, event.type, event.data["cpu"]["percent"]) == ("system", "sample", 2.0)
    assert feed.read(topics) == []


def test_opening_tells_how_things_stand(session: TrainingSession) -> None:
    host_sample()
    ended = factories.session(state=State.COMPLETED)
    events = Feed().open(frozenset({"system", "sessions", f"session:{ended.pk}"}))
    told = [(event.topic, event.data.get("id")) for event in events]
    assert told == [("system", None), ("sessions", session.pk), (f"session:{ended.pk}", ended.pk)]


def test_only_new_points_come_in_arrays_by_series(session: TrainingSession) -> None:
    MetricPoint.objects.create(session=session, key="loss", step=1, value=9)
    feed, topics = opened(f"session:{session.pk}")
    MetricPoint.objects.bulk_create(
        MetricPoint(session=session, key=key, step=step, value=value)
        for key, step, value in [("loss", 2, 0.5), ("loss", 3, None), ("learning_rate", 2, 0.1)]
    )
    [event] = feed.read(topics)
    assert event.type == "metric"
    assert event.data == {
        "session": session.pk,
        "series": {"loss": [[2, 0.5], [3, None]], "learning_rate": [[2, 0.1]]},
    }
    assert feed.read(topics) == []


def test_points_of_sessions_that_nobody_watches_are_not_told(session: TrainingSession) -> None:
    other = factories.session(state=State.RUNNING)
    feed, topics = opened(f"session:{session.pk}")
    MetricPoint.objects.create(session=other, key="loss", step=1, value=1)
    LogLine.objects.create(job=other.job, message="not yours")
    assert feed.read(topics) == []


def test_epochs_and_log_lines_are_told_with_the_place_to_go_on(session: TrainingSession) -> None:
    topic = f"session:{session.pk}"
    feed, topics = opened(topic, f"job:{session.pk}")
    EpochMetric.objects.create(session=session, epoch=1, loss=0.4, extra={"macro_f1": 0.9})
    line = LogLine.objects.create(job=session.job, message="Epoch 1/3")
    events = feed.read(topics)
    epoch = next(event for event in events if event.type == "epoch")
    assert (epoch.data["epoch"], epoch.data["loss"], epoch.data["extra"]) == (
        1,
        0.4,
        {"macro_f1": 0.9},
    )
    logs = [event for event in events if event.type == "log"]
    assert {event.topic for event in logs} == topics
    assert logs[0].data["next_after"] == line.pk
    assert logs[0].data["lines"][0]["message"] == "Epoch 1/3"


def test_a_change_is_told_once_to_the_list_and_to_the_page(session: TrainingSession) -> None:
    feed, topics = opened("sessions", f"session:{session.pk}")
    touch(session, progress=40.0)
    events = feed.read(topics)
    assert {event.topic for event in events} == topics
    assert {event.data["progress"] for event in events} == {40.0}
    touch(session)
    assert feed.read(topics) == []


def test_a_change_stamped_before_the_last_look_is_not_missed(session: TrainingSession) -> None:
    feed, topics = opened("sessions")
    a_moment_ago = timezone.now() - timedelta(seconds=3)
    Job.objects.filter(pk=session.pk).update(updated_at=a_moment_ago, progress=7.0)
    [event] = feed.read(topics)
    assert event.data["progress"] == 7.0


def test_the_end_of_a_session_is_told_after_its_last_numbers(session: TrainingSession) -> None:
    feed, topics = opened(f"session:{session.pk}")
    touch(session, state=State.COMPLETED)
    MetricPoint.objects.create(session=session, key="loss", step=1, value=1)
    EpochMetric.objects.create(session=session, epoch=1)
    assert types(feed.read(topics)) == ["metric", "epoch", "session"]


def test_a_job_that_is_no_session_has_its_own_topic() -> None:
    job = factories.job(kind="other")
    feed, topics = opened(f"job:{job.pk}", "sessions")
    Job.objects.filter(pk=job.pk).update(updated_at=timezone.now(), progress=5.0)
    [event] = feed.read(topics)
    assert (event.topic, event.type, event.data["progress"]) == (f"job:{job.pk}", "job", 5.0)


def test_a_table_that_was_not_needed_for_a_while_is_not_told_from_back_then(
    session: TrainingSession,
) -> None:
    topic = frozenset({f"session:{session.pk}"})
    feed, _ = opened(*topic)
    feed.read(frozenset({"system"}))
    MetricPoint.objects.create(session=session, key="loss", step=1, value=1)
    feed.open(topic)
    assert "metric" not in types(feed.read(topic))


def test_a_flood_comes_in_portions(
    session: TrainingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MOST_ROWS", 2)
    feed, topics = opened(f"session:{session.pk}")
    for step in (1, 2, 3):
        MetricPoint.objects.create(session=session, key="loss", step=step, value=1)
    told = [event.data["series"]["loss"] for _ in range(3) for event in feed.read(topics)]
    assert told == [[[1, 1.0], [2, 1.0]], [[3, 1.0]]]


def test_a_look_costs_the_same_however_many_sessions_are_watched(
    django_assert_num_queries: Any,
) -> None:
    sessions = [factories.session(state=State.RUNNING) for _ in range(5)]
    feed, topics = opened("system", "sessions", *(f"session:{s.pk}" for s in sessions))
    for each in sessions:
        touch(each, progress=3.0)
    with django_assert_num_queries(6):
        feed.read(topics)


@pytest.mark.parametrize("text", ["", " , ", "weather", "session:", "job:", "system,gpu:0"])
def test_topics_that_do_not_exist_are_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_topics(text)
    assert refusal.value.errors[0].field == "topics"


def test_too_many_topics_are_refused() -> None:
    with pytest.raises(Invalid, match="at most 32"):
        parse_topics(",".join(f"job:{n}" for n in range(33)))


def test_ids_that_do_not_exist_are_not_found(session: TrainingSession) -> None:
    plain = factories.job(kind="other")
    assert parse_topics(f"session:{session.pk}, job:{plain.pk}") == {
        f"session:{session.pk}",
        f"job:{plain.pk}",
    }
    for topic in ("session:nobody", "job:nobody", f"session:{plain.pk}"):
        with pytest.raises(NotFound):
            parse_topics(topic)


def test_processes_are_told_when_they_were_looked_at_again() -> None:
    host_sample()
    feed, topics = opened("system")
    table = ProcessTable.objects.create(host="box", processes=[{"pid": 7}])
    host_sample()
    sample, procs = feed.read(topics)
    assert (sample.type, procs.type) == ("sample", "procs")
    assert procs.data["results"] == [{"pid": 7}]
    host_sample()
    assert types(feed.read(topics)) == ["sample"]
    table.timestamp = timezone.now()
    table.save()
    host_sample()
    assert types(feed.read(topics)) == ["sample", "procs"]


def test_opening_tells_the_processes_and_reading_does_not_repeat_them() -> None:
    host_sample()
    ProcessTable.objects.create(host="box", processes=[{"pid": 7}])
    feed, topics = Feed(), frozenset({"system"})
    assert types(feed.open(topics))[:2] == ["sample", "procs"]
    host_sample()
    assert types(feed.read(topics)) == ["sample"]


def test_an_alert_is_told_when_it_opens_and_whenever_it_changes() -> None:
    feed, topics = opened("system")
    found = alert()
    [event] = feed.read(topics)
    assert (event.type, event.data["state"], event.data["severity"]) == (
        "alert",
        "open",
        "critical",
    )
    assert feed.read(topics) == []
    acknowledge(found, "owner")
    assert types(feed.read(topics)) == ["alert"]


def test_an_alert_that_still_waits_for_its_minutes_is_not_told() -> None:
    feed, topics = opened("system")
    alert(state=Alert.State.PENDING)
    assert feed.read(topics) == []
