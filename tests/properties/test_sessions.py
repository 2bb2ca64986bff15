"""Properties of sessions: ids, states, metrics, logs, refusals (document 002)."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from jobs import services as jobs
from jobs import tasks
from jobs.leases import Lease
from jobs.models import FINAL_STATES, Job, LogLine, State, Wanted
from ml.config import describe
from ml.rundir import Journal, RunDir
from mlserver.lib.ids import make_id
from sessions.ingest import ingest
from sessions.models import EpochMetric, TrainingSession
from tests import factories
from tests.properties.examples import client, examples

pytestmark = pytest.mark.django_db
NUMBERS = [f for f in describe()["network"]["fields"] if f["kind"] in ("integer", "number")]


@examples(25)
@given(drawn=st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_ids_are_unique_even_when_chance_repeats_itself(
    owner: User, drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Job.objects.all().delete()
    waiting = list(drawn)

    def unlucky(prefix: str, now: Any) -> str:
        return f"{prefix}_{waiting.pop()}" if waiting else make_id(prefix, now)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "make_id", unlucky)
        made = [jobs.create_job("train", owner=owner, spec={}).pk for _ in range(5)]
    assert len(set(made)) == Job.objects.count() == 5


# --- The state that is told is the state that is ------------------------------------------

ASKED = ("pause", "resume", "cancel")
ENDS = (State.COMPLETED, State.FAILED, State.PAUSED, State.CANCELLED)
DOOR_000 = {"queued": "pending", "paused": "running", "cancelled": "failed"}


def expected(state: str, wanted: str, step: str) -> tuple[str, str, bool]:
    """What a step makes of a session: state, wish, and whether it is allowed."""
    match step, state:
        case "pause", State.QUEUED:
            return State.PAUSED, Wanted.PAUSE, True
        case "pause", State.RUNNING if wanted == Wanted.RUN:
            return State.RUNNING, Wanted.PAUSE, True
        case "resume", State.PAUSED:
            return State.QUEUED, Wanted.RUN, True
        case "cancel", State.QUEUED | State.PAUSED:
            return State.CANCELLED, Wanted.CANCEL, True
        case "cancel", State.RUNNING:
            return State.RUNNING, Wanted.CANCEL, True
        case "claim", State.QUEUED:
            return State.RUNNING, wanted, True
        case (State(), State.RUNNING):
            return step, wanted, True
    return state, wanted, False


def take(api: Any, session_id: str, step: str) -> bool:
    if step in ASKED:
        return bool(api.post(f"/api/v1/sessions/{session_id}/{step}").status_code == 200)
    job = Job.objects.get(pk=session_id)
    if step == "claim":
        return jobs.claim_next("train") is not None
    return job.state == State.RUNNING and jobs.end_job(job, step, sentence="So it ended.")


@examples(15)
@given(steps=st.lists(st.sampled_from([*ASKED, "claim", "claim", *ENDS]), max_size=6))
def test_every_door_tells_the_state_that_is_real(owner: User, steps: list[str]) -> None:
    Job.objects.all().delete()
    api, session = client(owner), factories.session(owner=owner)
    state, wanted = str(State.QUEUED), str(Wanted.RUN)
    for step in steps:
        state, wanted, allowed = expected(state, wanted, step)
        assert take(api, session.pk, step) == allowed, (step, state)
        told = api.get(f"/api/v1/sessions/{session.pk}").json()
        assert (told["state"], told["wanted"]) == (state, wanted)
        assert api.get(f"/api/v1/jobs/{session.pk}").json()["state"] == state
        door = api.get(f"/api/v1/training/status/{session.pk}").json()
        assert door["status"] == DOOR_000.get(state, state)
        assert (door["completed_at"] is not None) == (state in FINAL_STATES)


# --- Exactly E entries for E epochs, in order ----------------------------------------------


def write_attempt(session: TrainingSession, attempt: int, first: int, last: int) -> bytes:
    """The journal of an attempt that goes on behind epoch `first` and reaches `last`."""
    path = RunDir(session.run_path).journal_path(attempt)
    history = [{"epoch": number, "loss": 1 / number} for number in range(1, first + 1)]
    with Journal(path, attempt) as journal:
        journal.write(
            "started",
            total_epochs=last,
            total_steps=10 * last,
            resumed_from_epoch=first,
            resumed_from_step=10 * first,
            history=history,
        )
        for number in range(first + 1, last + 1):
            journal.write("step", step=10 * number, epoch=number, loss=1.0)
            journal.write("epoch", epoch=number, loss=1 / number, extra={})
    return path.read_bytes()


@examples(10)
@given(
    epochs=st.integers(1, 12),
    resumes=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=2),
    cuts=st.lists(st.floats(0, 1), max_size=4),
)
def test_e_epochs_have_exactly_e_entries_in_order_however_it_was_interrupted(
    owner: User, epochs: int, resumes: list[tuple[float, float]], cuts: list[float]
) -> None:
    session = factories.session(state=State.RUNNING, attempt=1, lease_owner="me")
    first = 0
    for attempt in range(1, len(resumes) + 2):
        Job.objects.filter(pk=session.pk).update(attempt=attempt, journal_offset=0)
        lease, run = Lease(session.pk, attempt, "me"), RunDir(session.run_path)
        is_last = attempt == len(resumes) + 1
        reached = epochs if is_last else first + round(resumes[attempt - 1][0] * (epochs - first))
        whole = write_attempt(session, attempt, first, reached)
        # The supervisor reads while it grows, and a crash may take what was not read yet.
        for size in [*sorted(int(cut * len(whole)) for cut in cuts), len(whole)]:
            run.journal_path(attempt).write_bytes(whole[:size])
            while ingest(session, run, lease):
                pass
        if not is_last:
            first = round(resumes[attempt - 1][1] * reached)  # the newest checkpoint
    told = client(owner).get(f"/api/v1/sessions/{session.pk}/metrics").json()
    assert [entry["epoch"] for entry in told["results"]] == list(range(1, epochs + 1))
    assert told["total"] == epochs == EpochMetric.objects.filter(session=session).count()
    newest = client(owner).get(f"/api/v1/sessions/{session.pk}/metrics?latest=1").json()
    assert [entry["epoch"] for entry in newest["results"]] == [epochs]


# --- Logs ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LEVELS = list(LogLine.Level.values)


@examples(6)
@given(
    lines=st.lists(st.tuples(TEXT, st.sampled_from(LEVELS)), max_size=12),
    page=st.integers(1, 5),
    level=st.sampled_from(LEVELS),
)
def test_a_log_is_read_whole_and_in_order_page_by_page(
    owner: User, lines: list[tuple[str, str]], page: int, level: str
) -> None:
    job = factories.session().job
    for text, its_level in lines:
        jobs.log(job.pk, text, its_level)
    read: list[str] = []
    after = 0
    address = f"/api/v1/sessions/{job.pk}/logs?level={level}&limit={page}"
    while rows := (answer := client(owner).get(f"{address}&after={after}").json())["results"]:
        read += [row["message"] for row in rows]
        after = answer["next_after"]
    wanted = LEVELS[LEVELS.index(level) :]
    assert read == [text for text, its_level in lines if its_level in wanted]


# --- What is refused -----------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._ /@-]{0,30}", fullmatch=True)


@examples(15)
@given(name=NAMES)
def test_a_dataset_that_is_not_there_is_refused_with_a_sentence_and_nothing_begins(
    owner: User, name: str
) -> None:
    bodies: dict[str, dict[str, str]] = {
        "/api/v1/sessions/": {"dataset": name},
        "/api/v1/training/start": {"dataset_path": name},
    }
    for address, body in bodies.items():
        answer = client(owner).post(address, body, format="json")
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("Dataset not found: ")
    assert not Job.objects.exists()


def outside(field: dict[str, Any]) -> st.SearchStrategy[float]:
    low, high = field["minimum"], field["maximum"]
    if field["kind"] == "integer":
        return st.integers(-(2**62), int(low) - 1) | st.integers(int(high) + 1, 2**62)
    below = st.floats(
        max_value=low, exclude_max=not field["exclusive_minimum"], allow_infinity=False
    )
    return below | st.floats(min_value=high, exclude_min=True, allow_infinity=False)


@examples(25)
@given(choice=st.sampled_from(NUMBERS).flatmap(lambda f: st.tuples(st.just(f["name"]), outside(f))))
def test_a_number_outside_its_range_is_refused_by_name(
    owner: User, choice: tuple[str, float]
) -> None:
    name, value = choice
    if not TrainingSession.objects.exists():
        factories.session(dataset_version=factories.dataset_version(name="flowers"))
    answer = client(owner).post(
        "/api/v1/sessions/", {"dataset": "flowers", name: value}, format="json"
    )
    assert answer.status_code == 422
    assert name in [error["field"] for error in answer.json()["errors"]]


# --- Capacity ------------------------------------------------------------------------------


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The cluster without its processes: a wake-up starts what may start, at once."""

    def send(task: str, argument: str, kind: str) -> None:
        if task == "jobs.tasks.start_next":
            tasks.start_next(argument)

    monkeypatch.setattr(jobs, "_send", send)
    train = {**settings.JOB_KINDS["train"], "slice": "tests.properties.examples.end_at_once"}
    settings.JOB_KINDS = {**settings.JOB_KINDS, "train": train}


@examples(25)
@given(
    seats=st.integers(1, 4),
    ends=st.lists(st.sampled_from([State.COMPLETED, State.FAILED]), min_size=1, max_size=7),
)
def test_as_many_run_as_there_are_seats_and_the_next_starts_by_itself(
    owner: User,
    queue: None,
    seats: int,
    ends: list[State],
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    Job.objects.all().delete()
    settings.MAX_CONCURRENT_SESSIONS = seats
    with django_capture_on_commit_callbacks(execute=True):
        made = [jobs.create_job("train", owner=owner, spec={"ends": end}).pk for end in ends]
    for ended in range(len(ends)):
        running = list(Job.objects.running().order_by("started_at").values_list("pk", flat=True))
        assert len(running) == min(seats, len(ends) - ended)
        assert Job.objects.waiting().count() == max(0, len(ends) - ended - seats)
        with django_capture_on_commit_callbacks(execute=True):
            jobs.run_slice(running[0])
    assert [Job.objects.get(pk=pk).state for pk in made] == ends
