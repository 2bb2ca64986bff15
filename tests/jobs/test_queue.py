from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import OrmQ
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from jobs import services
from jobs.models import Job, State, Wanted
from jobs.services import WrongState
from tests import factories

pytestmark = pytest.mark.django_db


def create(owner: User | None = None, priority: int = 0) -> Job:
    return services.create_job("train", owner=owner, spec={}, priority=priority)


def test_ids_are_readable_and_differ() -> None:
    jobs = [create() for _ in range(20)]
    assert len({job.pk for job in jobs}) == 20
    assert all(job.pk.startswith("train_20") for job in jobs)


def test_first_come_first_served() -> None:
    first, second = create(), create()
    assert services.queue_order("train") == [first.pk, second.pk]


def test_priority_goes_before_age() -> None:
    _, urgent = create(), create(priority=5)
    claimed = services.claim_next("train")
    assert claimed is not None
    assert claimed.pk == urgent.pk


def test_owners_take_turns(owner: User, teammate: User) -> None:
    mine = [create(owner) for _ in range(3)]
    theirs = create(teammate)
    assert services.queue_order("train") == [mine[0].pk, theirs.pk, mine[1].pk, mine[2].pk]


def test_who_was_served_last_waits_for_the_others(owner: User, teammate: User) -> None:
    factories.job(owner=owner, state=State.COMPLETED, started_at=timezone.now())
    mine, theirs = create(owner), create(teammate)
    assert services.queue_order("train") == [theirs.pk, mine.pk]


def test_the_place_that_a_newcomer_would_have_is_known_before_it_comes(
    owner: User, teammate: User
) -> None:
    for _ in range(2):
        create(owner)
    create(teammate)
    assert services.place_in_queue("train", owner=owner, priority=0) == 4
    assert services.place_in_queue("train", owner=teammate, priority=0) == 4
    assert services.place_in_queue("train", owner=owner, priority=1) == 1
    newcomer = create(teammate)
    assert services.queue_order("train")[3] == newcomer.pk


def test_no_more_run_than_there_are_seats(settings: Settings) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 2
    for _ in range(3):
        create()
    claimed = [services.claim_next("train") for _ in range(3)]
    assert [job is not None for job in claimed] == [True, True, False]


def test_what_backs_off_does_not_hold_up_the_rest() -> None:
    waiting = create()
    Job.objects.filter(pk=waiting.pk).update(retry_at=timezone.now() + timedelta(minutes=1))
    ready = create()
    assert services.queue_order("train") == [ready.pk]


def test_a_new_job_sends_one_wake_up(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        create()
    assert OrmQ.objects.filter(key="gpu").count() == 1


def test_cancelling_what_waits_is_final_at_once() -> None:
    job = services.cancel_job(create())
    assert job.state == State.CANCELLED
    assert services.claim_next("train") is None


def test_cancelling_what_runs_asks_it() -> None:
    create()
    job = services.claim_next("train")
    assert job is not None
    job = services.cancel_job(job)
    assert (job.state, job.wanted) == (State.RUNNING, Wanted.CANCEL)


def test_it_refuses_to_cancel_a_finished_job() -> None:
    with pytest.raises(WrongState, match="already ended"):
        services.cancel_job(factories.job(state=State.COMPLETED))


def test_a_paused_job_waits_until_it_is_resumed() -> None:
    job = services.pause_job(create())
    assert job.state == State.PAUSED
    assert services.claim_next("train") is None
    services.resume_job(job)
    claimed = services.claim_next("train")
    assert claimed is not None
    assert claimed.pk == job.pk


def test_it_refuses_to_resume_what_is_not_paused() -> None:
    with pytest.raises(WrongState, match="not paused"):
        services.resume_job(create())


def test_only_what_waits_can_be_moved_in_the_queue() -> None:
    assert services.set_priority(create(), 7).priority == 7
    with pytest.raises(WrongState, match="only what waits"):
        services.set_priority(factories.job(state=State.RUNNING), 7)


def test_the_watchdog_wakes_what_nobody_supervises(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    factories.job(state=State.RUNNING, attempt=1, lease_until=timezone.now() - timedelta(1))
    with django_capture_on_commit_callbacks(execute=True):
        services.wake_what_waits()
    assert OrmQ.objects.filter(key="gpu").count() == 1
