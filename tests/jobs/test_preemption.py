"""Work that only fills a free seat gives it to what people wait for."""

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from jobs import services
from jobs.holds import hold_queue
from jobs.models import Job, State, Wanted
from tests import factories

pytestmark = pytest.mark.django_db


def run_demo(**values: object) -> Job:
    return factories.job(state=State.RUNNING, attempt=1, preemptible=True, **values)


def wait(*, preemptible: bool = False, priority: int = 0) -> Job:
    return services.create_job(
        "train", owner=None, spec={}, preemptible=preemptible, priority=priority
    )


def yielding() -> set[str]:
    return set(Job.objects.filter(yielding=True).values_list("pk", flat=True))


def test_it_is_asked_for_its_seat_when_somebody_waits(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    demo = run_demo()
    assert services.claim_next("train") is None
    assert yielding() == set()
    wait()
    assert services.claim_next("train") is None
    assert yielding() == {demo.pk}


def test_nobody_is_asked_while_a_seat_is_free(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 2
    run_demo()
    own = wait()
    claimed = services.claim_next("train")
    assert claimed is not None
    assert (claimed.pk, yielding()) == (own.pk, set())


def test_only_as_many_are_asked_as_others_wait(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 3
    now = timezone.now()
    older = run_demo(started_at=now - timedelta(hours=1))
    newer = run_demo(started_at=now)
    factories.job(state=State.RUNNING)
    wait()
    for _ in range(3):
        assert services.claim_next("train") is None
    assert yielding() == {newer.pk}
    wait()
    services.claim_next("train")
    assert yielding() == {newer.pk, older.pk}


def test_somebodys_own_session_is_never_asked(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    factories.job(state=State.RUNNING)
    wait(priority=10)
    services.claim_next("train")
    assert yielding() == set()


def test_another_demo_does_not_push_it_out(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    run_demo()
    wait(preemptible=True)
    services.claim_next("train")
    assert yielding() == set()


def test_what_ends_anyway_and_a_held_queue_ask_for_nothing(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    demo = run_demo(wanted=Wanted.CANCEL)
    wait()
    services.claim_next("train")
    assert yielding() == set()
    Job.objects.filter(pk=demo.pk).update(wanted=Wanted.RUN)
    hold_queue("train", reason="Maintenance.", by="admin")
    services.claim_next("train")
    assert yielding() == set()


def test_a_demo_is_last_in_line_whatever_its_priority() -> None:
    demo, own = wait(preemptible=True, priority=100), wait()
    assert services.queue_order("train") == [own.pk, demo.pk]


def test_who_has_yielded_starts_afresh(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    demo = run_demo(yielding=True)
    assert services.requeue_job(demo, code="preempted", sentence="It gave its seat away.")
    claimed = services.claim_next("train")
    assert claimed is not None
    assert (claimed.pk, claimed.attempt, claimed.yielding) == (demo.pk, 2, False)
