"""What takes long to fetch: a job with progress that can be cancelled and begun again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from datasets import downloads, sources
from datasets.models import Dataset, DatasetVersion
from jobs import services as jobs
from jobs.models import Job, State
from tests.lib.receiver import Receiver, receiver, reply
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
CSV = b"x,label\n1,a\n2,b\n"
HEADER, ROW = b"x,label\n", b"1,a\n"


@pytest.fixture
def told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Another server; whatever it sends is too large to wait for."""
    settings.ALLOWED_PRIVATE_HOSTS = ["127.0.0.1"]
    settings.SLICE_SECONDS = 0.5
    monkeypatch.setattr(sources, "QUICK_BYTES", 1)
    with receiver() as other:
        other.answer = lambda handler: reply(handler, 200, CSV)
        yield other
    for job in Job.objects.filter(kind=downloads.KIND):
        downloads.abandon(job)


@pytest.fixture
def halves(told: Receiver) -> Iterator[threading.Event]:
    """It sends half of the file, then hardly anything, and the rest when this is set."""
    rest, rows = threading.Event(), 1_000_000

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(HEADER) + rows * len(ROW)))
        handler.end_headers()
        handler.wfile.write(HEADER + rows // 2 * ROW)
        sent = rows // 2
        while not rest.wait(0.2):
            handler.wfile.write(ROW)
            sent += 1
        handler.wfile.write((rows - sent) * ROW)

    def answer_until_it_is_hung_up(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            answer(handler)

    told.answer = answer_until_it_is_hung_up
    yield rest
    rest.set()


def client(user: User, **headers: str) -> Client:
    client = Client(headers=headers)
    client.force_login(user)
    return client


def ask(user: User, told: Receiver, **more: Any) -> Any:
    body = orjson.dumps({"url": f"{told.url}/table.csv", **more})
    return client(user).post("/api/v1/datasets/", body, "application/json")


def claim() -> Job:
    job = jobs.claim_next(downloads.KIND)
    assert job is not None
    return job


def work_until(job_id: str, is_so: Callable[[Job], bool]) -> Job:
    def look() -> Job | None:
        jobs.run_slice(job_id)
        job = Job.objects.get(pk=job_id)
        return job if is_so(job) else None

    return wait_until(look, Job.objects.filter(pk=job_id).values)


def has_ended(job: Job) -> bool:
    return job.is_final


def is_under_way(job: Job) -> bool:
    return job.progress > 0


def left(settings: Settings) -> list[Path]:
    incoming = (Path(settings.DATASETS_DIR) / ".incoming").glob("*")
    return [*incoming, *Path(settings.RUNS_DIR).iterdir()]


def test_it_becomes_a_version(told: Receiver, owner: User, settings: Settings) -> None:
    made = ask(owner, told, name="far", target="x", description="from afar")
    assert made.status_code == 202, made.content
    assert (made.json()["kind"], made.json()["state"]) == ("dataset_download", "queued")
    claim()
    job = work_until(made.json()["job_id"], has_ended)
    assert (job.state, job.progress) == (State.COMPLETED, 100), job.error
    assert job.result == {"dataset": "far", "version": 1, "is_new": True}
    version = DatasetVersion.objects.select_related("dataset").get()
    assert (version.sample_count, version.schema["target"]) == (2, "x")
    assert (version.dataset.description, version.created_by) == ("from afar", owner)
    assert left(settings) == []


def test_what_is_wrong_at_once_is_said_at_once(told: Receiver, owner: User, teammate: User) -> None:
    Dataset.objects.create(name="taken", owner=teammate)
    assert ask(owner, told, name="taken").status_code == 403
    assert ask(owner, told, name="no name!").status_code == 422
    assert not told.requests
    assert not Job.objects.exists()


def test_half_way_its_progress_is_told_and_it_can_be_cancelled(
    told: Receiver, halves: threading.Event, owner: User, teammate: User, settings: Settings
) -> None:
    job_id = ask(owner, told).json()["job_id"]
    claim()
    job = work_until(job_id, is_under_way)
    assert job.phase == "downloading"
    assert 0 < job.progress < 46
    html = client(owner, accept="text/html").get("/datasets/").content.decode()
    assert 'aria-label="Downloads"' in html
    assert client(teammate).delete(f"/api/v1/jobs/{job_id}").status_code == 403
    assert client(owner).delete(f"/api/v1/jobs/{job_id}").status_code == 204
    assert work_until(job_id, has_ended).state == State.CANCELLED
    assert left(settings) == []
    assert "Downloads" not in client(owner, accept="text/html").get("/datasets/").content.decode()


def test_one_whose_child_died_with_the_server_is_begun_again(
    told: Receiver, halves: threading.Event, owner: User
) -> None:
    job_id = ask(owner, told).json()["job_id"]
    work_until(claim().pk, is_under_way)
    downloads._fetcher(Job.objects.get(pk=job_id)).stop()
    job = work_until(job_id, lambda job: job.state == State.QUEUED)
    assert job.error_code == "lost"
    halves.set()
    assert claim().attempt == 2
    assert work_until(job_id, has_ended).state == State.COMPLETED


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"x,label\n1\n", "data_error", "Row 1 has 1 value"),
        (None, "outgoing_failed", "status 404"),
    ],
)
def test_why_it_failed_is_told_until_it_is_dismissed(
    told: Receiver, owner: User, settings: Settings, content: bytes | None, code: str, words: str
) -> None:
    job_id = ask(owner, told).json()["job_id"]
    told.answer = lambda handler: reply(handler, 200 if content else 404, content or b"")
    claim()
    job = work_until(job_id, has_ended)
    assert (job.state, job.error_code) == (State.FAILED, code)
    assert words in job.error
    assert not Dataset.objects.exists()
    assert left(settings) == []
    pages = client(owner, accept="text/html")
    assert words in pages.get("/datasets/").content.decode()
    pages.post(f"/datasets/downloads/{job_id}/cancel/")
    assert words not in pages.get("/datasets/").content.decode()


def test_the_page_says_that_it_is_being_fetched(told: Receiver, owner: User) -> None:
    pages = client(owner, accept="text/html")
    made = pages.post("/datasets/upload/", {"url": f"{told.url}/table.csv"}, follow=True)
    assert made.redirect_chain == [("/datasets/", 302)]
    assert "table is being fetched" in made.content.decode()
    assert "queued" in made.content.decode()
