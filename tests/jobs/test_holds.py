import pytest
from django.contrib.auth.models import User
from django_q.models import OrmQ
from pytest_django import DjangoCaptureOnCommitCallbacks

from jobs import holds, services
from jobs.models import Job, QueueHold, State
from mlserver.lib.errors import Invalid
from tests import factories

pytestmark = pytest.mark.django_db


def test_nothing_starts_while_the_queue_is_held_and_everything_keeps_its_place() -> None:
    waiting = factories.job()
    hold = holds.hold_queue("train", reason="The disk is full.", by="owner")
    assert services.claim_next("train") is None
    assert services.queue_order("train") == [waiting.pk]
    holds.lift_hold(hold)
    claimed = services.claim_next("train")
    assert claimed is not None
    assert claimed.pk == waiting.pk


def test_every_hold_must_be_lifted() -> None:
    factories.job()
    first = holds.hold_queue("train", reason="One.", by="owner")
    holds.hold_queue("train", reason="Two.", by="alert: disk")
    holds.lift_hold(first)
    assert services.claim_next("train") is None
    assert holds.lift_holds("train") == 1
    assert services.claim_next("train") is not None


def test_a_hold_of_another_kind_holds_nothing_here() -> None:
    factories.job()
    QueueHold.objects.create(kind="compile", reason="No.", by="x")
    assert services.claim_next("train") is not None


def test_lifting_wakes_the_workers_and_the_watchdog_wakes_nobody_before(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    factories.job()
    hold = holds.hold_queue("train", reason="Wait.", by="owner")
    with django_capture_on_commit_callbacks(execute=True):
        services.wake_what_waits()
    assert not OrmQ.objects.exists()
    with django_capture_on_commit_callbacks(execute=True):
        holds.lift_hold(hold)
    assert OrmQ.objects.count() == 1


def test_what_runs_goes_on(owner: User) -> None:
    job = factories.job(owner=owner, state=State.RUNNING)
    holds.hold_queue("train", reason="Wait.", by="owner")
    assert Job.objects.get(pk=job.pk).state == State.RUNNING


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_hold_says_why(reason: str) -> None:
    with pytest.raises(Invalid, match="reason"):
        holds.hold_queue("train", reason=reason, by="owner")
