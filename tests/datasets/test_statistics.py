"""The job that makes statistics: queued with each version, done by a child, told over REST."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from pytest_django import Settings

from datasets import services
from datasets.models import DatasetVersion
from datasets.removal import delete_dataset
from datasets.services import import_upload
from datasets.statistics import KIND, find_statistics, request_statistics, work
from jobs.leases import Lease
from jobs.models import Job, State
from jobs.services import cancel_job, claim_next
from mlserver.lib.background import BackgroundChild
from tests.datasets.test_api import client
from tests.ml.data.archives import pets
from tests.waiting import has_ended, wait_until

CSV = b"a,label\n1,x\n2,y\n3,x\n1,x\n"
URL = "/api/v1/datasets/table/statistics"


@pytest.fixture
def version(owner: User) -> DatasetVersion:
    return import_upload(owner=owner, name="table", upload=ContentFile(CSV, name="t.csv"))


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


def test_a_new_version_has_its_statistics_made(version: DatasetVersion, settings: Settings) -> None:
    assert find_statistics(version).state == State.QUEUED
    finish(claim())

    version.refresh_from_db()
    assert (job().state, job().progress) == (State.COMPLETED, 100)
    assert (version.statistics["rows"], version.statistics["duplicates"]) == (4, 1)
    assert list(Path(settings.RUNS_DIR).iterdir()) == []


def test_images_have_theirs(owner: User, tmp_path: Path) -> None:
    archive = pets(tmp_path / "pets.zip").read_bytes()
    pictures = import_upload(owner=owner, name="pets", upload=ContentFile(archive, name="p.zip"))
    finish(claim())

    pictures.refresh_from_db()
    assert (pictures.kind, pictures.dimensions) == ("image", [4, 8, 6, 3])
    assert [each["count"] for each in pictures.statistics["labels"]] == [2, 2]


def test_the_same_file_again_makes_no_second_job(version: DatasetVersion, owner: User) -> None:
    import_upload(owner=owner, name="table", upload=ContentFile(CSV, name="t.csv"))
    assert Job.objects.filter(kind=KIND).count() == 1
    assert request_statistics(version, owner) == job()


def test_the_api_tells_how_far_it_is(version: DatasetVersion, owner: User) -> None:
    waiting = client(owner).get(URL).json()
    assert (waiting["state"], waiting["rows"], waiting["job_id"]) == ("queued", None, job().pk)
    finish(claim())

    done = client(owner).get(URL).json()
    assert (done["state"], done["version"], done["rows"]) == ("completed", 1, 4)
    assert done["labels"][0] == {"label": "x", "count": 3, "share": 0.75}
    assert done["columns"][0]["histogram"]["counts"] == [2, 1, 1]
    assert done["columns"][1]["top"][0] == {"value": "x", "count": 3}
    assert client(owner).get(f"{URL}?version=2").status_code == 404
    assert client(owner).get("/api/v1/datasets/nothing/statistics").status_code == 404


def test_they_can_be_asked_for_where_they_are_missing(
    version: DatasetVersion, owner: User, stranger: User
) -> None:
    job().delete()
    assert client(owner).get(URL).json()["state"] == "missing"
    assert client(stranger).post(URL).status_code == 403

    answer = client(owner).post(URL)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")


def test_old_versions_get_theirs_once(version: DatasetVersion) -> None:
    assert services.request_missing_statistics() == 0
    job().delete()
    assert services.request_missing_statistics() == 1
    assert services.request_missing_statistics() == 0


def test_a_killed_child_is_tried_again_and_then_said(
    version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    suicide = ["/bin/sh", "-c", "kill -9 $$"]
    monkeypatch.setattr("mlserver.lib.background.child_command", lambda *_: suicide)
    for _ in range(job().retries):
        finish(claim())

    assert (job().state, job().error_code) == (State.FAILED, "crashed")
    assert "without an answer" in job().error
    assert find_statistics(version).state == State.FAILED


def test_a_file_that_is_gone_fails_with_a_sentence(version: DatasetVersion) -> None:
    (version.folder / "data.csv").unlink()
    finish(claim())

    assert (job().state, job().error_code) == (State.FAILED, "data_error")
    assert "is gone" in job().error


def test_cancelling_ends_the_child(version: DatasetVersion, settings: Settings) -> None:
    settings.SLICE_SECONDS = 0
    lease = claim()
    assert work(lease)
    child = BackgroundChild(settings.RUNS_DIR / f"{lease.job_id}-1")
    pid = int((child.folder / "pid").read_text())
    cancel_job(job())
    finish(lease)

    assert job().state == State.CANCELLED
    wait_until(lambda: has_ended(pid))


def test_a_deleted_dataset_needs_none(version: DatasetVersion, owner: User) -> None:
    lease = claim()
    delete_dataset(version.dataset, owner)
    finish(lease)

    assert job().state == State.CANCELLED


def test_another_worker_takes_over_a_child_that_runs(
    version: DatasetVersion, settings: Settings
) -> None:
    settings.SLICE_SECONDS = 0
    first = claim()
    assert work(first)
    first.release()
    second = Lease(first.job_id, first.attempt)
    assert Job.objects.take_lease(first.job_id, second.owner)
    settings.SLICE_SECONDS = 5
    finish(second)

    assert job().state == State.COMPLETED
