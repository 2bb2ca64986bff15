import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from jobs.models import FINAL_STATES, TRANSITIONS, Job, State
from tests import factories


@pytest.mark.django_db
def test_a_job_moves_along_the_table() -> None:
    job = factories.job()
    assert Job.objects.claim(job.pk, "me", "here")
    assert Job.objects.move(job.pk, State.RUNNING, State.COMPLETED)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (State.COMPLETED, 1)
    assert job.started_at
    assert job.finished_at


@pytest.mark.django_db
@pytest.mark.parametrize("source", State.values)
@pytest.mark.parametrize("target", State.values)
def test_it_refuses_every_move_that_is_not_in_the_table(source: str, target: str) -> None:
    job = factories.job(state=source)
    if target in TRANSITIONS[source]:
        assert Job.objects.move(job.pk, source, target)
    else:
        with pytest.raises(ValueError, match="cannot go from"):
            Job.objects.move(job.pk, source, target)
        job.refresh_from_db()
        assert job.state == source


@pytest.mark.django_db
def test_a_move_from_a_state_that_is_no_longer_true_changes_nothing() -> None:
    job = factories.job(state=State.CANCELLED)
    assert not Job.objects.move(job.pk, State.RUNNING, State.COMPLETED)
    job.refresh_from_db()
    assert job.state == State.CANCELLED


@pytest.mark.django_db
def test_an_older_attempt_cannot_end_a_newer_one() -> None:
    job = factories.job(state=State.RUNNING, attempt=2)
    assert not Job.objects.move(job.pk, State.RUNNING, State.FAILED, attempt=1)
    assert Job.objects.move(job.pk, State.RUNNING, State.FAILED, attempt=2)


class TransitionProperties(TestCase):
    @given(st.lists(st.tuples(st.sampled_from(State.values), st.sampled_from(State.values))))
    def test_no_sequence_of_moves_leaves_a_final_state(self, moves: list[tuple[str, str]]) -> None:
        job = factories.job()
        for source, target in moves:
            job.refresh_from_db()
            was = job.state
            if target in TRANSITIONS[source]:
                Job.objects.move(job.pk, source, target)
            job.refresh_from_db()
            if was in FINAL_STATES:
                assert job.state == was
