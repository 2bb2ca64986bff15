"""The demo models: the data is made by a job, each is queued once, a failure is repaired."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from pytest_django import Settings

from datasets.corpora import CorpusChild, find_corpus
from datasets.models import Dataset
from datasets.services import import_upload, register_builtin
from jobs.leases import Lease
from jobs.models import Job, LogLine, State
from jobs.services import cancel_job, claim_next
from mlserver.lib.errors import Conflict, Invalid
from mlserver.lib.files import INCOMING
from sessions.demo import KIND, abandon, seed_demo, work
from sessions.models import TrainingSession
from tests.waiting import wait_until

SECURITY = ["code-security"]


@pytest.fixture(autouse=True)
def demos(settings: Settings, db: None) -> Iterator[None]:
    settings.DEMO_MODELS = SECURITY
    settings.SLICE_SECONDS = 0.5
    yield
    for job in Job.objects.filter(kind=KIND):  # no child outlives its test
        abandon(job)


def job() -> Job:
    return Job.objects.get(kind=KIND)


def claim() -> Lease:
    claimed = claim_next(KIND)
    assert claimed is not None
    lease = Lease(claimed.pk, claimed.attempt)
    assert Job.objects.take_lease(claimed.pk, lease.owner)
    return lease


def finish(lease: Lease) -> None:
    while work(lease):
        pass


def sessions() -> list[str]:
    return sorted(TrainingSession.objects.values_list("name", flat=True))


def test_the_corpus_is_made_and_the_session_queued(admin: User, settings: Settings) -> None:
    [told] = seed_demo(admin, is_small=True)
    assert told == f"Queued the making of the data for code-security: {job().pk}."
    assert sessions() == []
    finish(claim())

    assert (job().state, job().progress) == (State.COMPLETED, 100)
    [session] = TrainingSession.objects.all()
    assert (session.name, session.recipe, session.job.state) == (
        "code-security",
        "features",
        State.QUEUED,
    )
    version = session.dataset_version
    assert version is not None
    assert version.dataset.is_builtin
    assert version.splits["validation"] > 100
    lines = " ".join(LogLine.objects.filter(job=job()).values_list("message", flat=True))
    assert "Made code-security@1" in lines
    assert list((settings.DATASETS_DIR / INCOMING).iterdir()) == []


def test_a_second_start_repeats_nothing(admin: User) -> None:
    seed_demo(admin, is_small=True)
    assert seed_demo(admin, is_small=True) == []
    finish(claim())
    assert seed_demo(admin, is_small=True) == []
    assert (Job.objects.filter(kind=KIND).count(), sessions()) == (1, SECURITY)


def test_what_needs_no_corpus_is_queued_at_once(admin: User, settings: Settings) -> None:
    settings.DEMO_MODELS = ["digits"]
    register_builtin("digits")
    [told] = seed_demo(admin)
    assert "digits-demo" in told
    assert sessions() == ["digits-demo"]
    assert not Job.objects.filter(kind=KIND).exists()


def test_a_failed_making_is_told_and_tried_again_at_the_next_start(admin: User) -> None:
    seed_demo(admin, is_small=True)
    lease = claim()
    import_upload(
        owner=admin, name="code-security", upload=ContentFile(b"a,label\n1,x\n2,y\n", name="t.csv")
    )
    finish(lease)
    assert (job().state, job().error_code) == (State.FAILED, "conflict")
    assert "rename that one first" in job().error

    Dataset.objects.filter(name="code-security").update(name="mine")
    seed_demo(admin, is_small=True)
    finish(claim())
    assert sessions() == SECURITY


def test_a_failed_session_is_started_again(admin: User) -> None:
    seed_demo(admin, is_small=True)
    finish(claim())
    Job.objects.filter(kind="train").update(state=State.FAILED)
    seed_demo(admin, is_small=True)
    finish(claim())
    assert sessions() == SECURITY * 2
    assert Dataset.objects.filter(name="code-security").get().versions.count() == 1


def test_a_cancelled_job_leaves_no_child(admin: User, settings: Settings) -> None:
    seed_demo(admin, is_small=True)
    lease = claim()
    work(lease)
    cancel_job(job())
    finish(lease)
    assert job().state == State.CANCELLED
    assert sessions() == []
    assert list((settings.DATASETS_DIR / INCOMING).iterdir()) == []


def test_the_generator_yields_to_people(admin: User, settings: Settings) -> None:
    settings.DEMO_MODELS = ["code-generator"]
    seed_demo(admin, is_small=True)
    finish(claim())
    [session] = TrainingSession.objects.all()
    assert (session.recipe, session.job.preemptible) == ("causal", True)
    assert session.job.priority < 0


def test_none_trains_nothing(admin: User, settings: Settings) -> None:
    settings.DEMO_MODELS = ["none"]
    assert seed_demo(admin) == []


def test_an_unknown_name_is_refused(admin: User, settings: Settings) -> None:
    settings.DEMO_MODELS = ["digit"]
    with pytest.raises(Invalid, match="DEMO_MODELS names 'digit'; there are digits"):
        seed_demo(admin)
    with pytest.raises(CommandError, match="DEMO_MODELS"):
        call_command("seed_demo")


def test_a_child_may_be_looked_after_by_somebody_else(admin: User) -> None:
    """A worker may die between two looks: the key alone finds the child again."""
    assert CorpusChild("python-functions", "a-key").look(5) is None
    version = wait_until(lambda: CorpusChild("python-functions", "a-key").look(5))
    assert version == find_corpus("python-functions")
    assert CorpusChild("python-functions", "another").look(5) == version


def test_a_name_that_a_person_took_is_left_alone(admin: User) -> None:
    import_upload(
        owner=admin, name="code-security", upload=ContentFile(b"a,label\n1,x\n2,y\n", name="t.csv")
    )
    with pytest.raises(Conflict):
        find_corpus("code-security")
