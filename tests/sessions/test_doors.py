"""The door of document 000: its bodies and words, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from datasets.models import Dataset
from jobs.models import State
from sessions.models import TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db
START = "/api/v1/training/start"
RECORDS = '[{"x": 1, "label": "a"}, {"x": 2, "label": "b"}, {"x": 3, "label": "a"}]'


def client(user: User) -> APIClient:
    api = APIClient()
    api.force_authenticate(user)
    return api


def start(user: User, **body: Any) -> Any:
    return client(user).post(START, body, format="json")


def put_file(name: str = "dataset.json", text: str = RECORDS) -> Path:
    path = Path(settings.DATASETS_DIR) / name
    path.write_text(text)
    return path


def test_a_dataset_by_name_is_trained_with_the_words_of_the_document(owner: User) -> None:
    factories.dataset_version(name="flowers")
    answer = start(
        owner,
        dataset_path="flowers",
        model_name="mlp",
        num_epochs=20,
        batch_size=16,
        learning_rate=5e-5,
        output_dir="models/my_model",
    )
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"job_id", "status", "message", "started_at"}
    assert (body["status"], body["message"]) == ("pending", "Training job started")
    session = TrainingSession.objects.get(pk=body["job_id"])
    assert session.name == "my_model"
    assert session.job.owner == owner
    config = session.config
    assert (config["epochs"], config["batch_size"], config["learning_rate"]) == (20, 16, 5e-5)
    assert config["architecture"] == "mlp"


@pytest.mark.parametrize("path", ["flowers", "data/flowers", "flowers@1", "data/flowers@1"])
def test_a_registered_name_may_have_the_leading_folder(owner: User, path: str) -> None:
    version = factories.dataset_version(name="flowers")
    job_id = start(owner, dataset_path=path).json()["job_id"]
    assert TrainingSession.objects.get(pk=job_id).dataset_version == version


def test_a_file_is_registered_once_whoever_comes_second(owner: User, teammate: User) -> None:
    put_file()
    first = start(owner, dataset_path="data/dataset.json")
    second = start(teammate, dataset_path="dataset.json")
    versions = {
        TrainingSession.objects.get(pk=answer.json()["job_id"]).dataset_version_id
        for answer in (first, second)
    }
    assert len(versions) == 1
    assert list(Dataset.objects.values_list("name", flat=True)) == ["dataset"]


@pytest.mark.parametrize(
    "path", ["data/nothing.json", "../secret_key", "/etc/passwd", "no-such-name"]
)
def test_a_dataset_that_is_not_there_is_404_with_the_documents_sentence(
    owner: User, path: str
) -> None:
    answer = start(owner, dataset_path=path)
    assert answer.status_code == 404
    body = answer.json()
    assert body["detail"].startswith("Dataset not found: ")
    assert body["errors"][0]["field"] == "dataset_path"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("model_name", "Salesforce/codet5-small", "base_model_not_found"),
        ("task_type", "code_generation", "invalid_choice"),
        ("num_epochs", 0, "too_small"),
        ("num_epochs", "many", "invalid"),
        ("batch_size", -3, "too_small"),
        ("learning_rate", 0, "too_small"),
        ("output_dir", "/tmp/model", "invalid"),
        ("output_dir", "models/../../x", "invalid"),
        ("epochs", 3, "unknown_field"),
    ],
)
def test_what_cannot_be_is_refused_under_the_documents_name_and_nothing_is_registered(
    owner: User, field: str, value: Any, code: str
) -> None:
    put_file()
    answer = start(owner, dataset_path="dataset.json", **{field: value})
    assert answer.status_code == 422
    assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]
    assert answer.json()["errors"][0]["message"].startswith((field, "unknown", "A valid"))
    assert not Dataset.objects.exists()


PAIRS = {
    "columns": [{"name": "input", "type": "string"}, {"name": "output", "type": "string"}],
    "target": "output",
}


def test_a_language_model_that_is_nowhere_is_told_how_to_bring_it(owner: User) -> None:
    factories.dataset_version(name="pairs", schema=PAIRS)
    answer = start(owner, dataset_path="pairs", model_name="Salesforce/codet5-small")
    assert answer.status_code == 422
    assert "Register its Hugging Face folder" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("task", "asked", "recipe"),
    [("text2text", {}, "text2text"), ("embed", {"task_type": "causal"}, "causal")],
)
def test_the_recipe_follows_from_the_model_or_is_said(
    owner: User, task: str, asked: dict[str, str], recipe: str
) -> None:
    factories.dataset_version(name="pairs", schema=PAIRS)
    factories.base_model(name="Salesforce--codet5-small", task=task)
    body = {"dataset_path": "pairs", "model_name": "Salesforce/codet5-small", "num_epochs": 20}
    answer = start(owner, **body, **asked)
    assert answer.status_code == 200, answer.content
    session = TrainingSession.objects.get(pk=answer.json()["job_id"])
    assert (session.recipe, session.total_epochs) == (recipe, 20)
    assert session.base_model == session.config["base_model"] == "Salesforce--codet5-small@1"


def test_a_model_that_could_learn_anything_wants_to_be_told_what(owner: User) -> None:
    factories.dataset_version(name="pairs", schema=PAIRS)
    factories.base_model(name="bert", task="embed")
    answer = start(owner, dataset_path="pairs", model_name="bert")
    assert answer.json()["errors"][0]["field"] == "task_type"


def test_images_may_be_named_by_the_network_that_learns_from_them(owner: User) -> None:
    factories.dataset_version(name="table")
    answer = start(owner, dataset_path="table", model_name="cnn")
    assert answer.json()["errors"][0]["field"] == "model_name"
    factories.dataset_version(name="pictures", kind="image")
    assert start(owner, dataset_path="pictures", model_name="cnn").status_code == 200


def test_a_viewer_starts_nothing_and_reads_all(stranger: User) -> None:
    assert start(stranger, dataset_path="x").status_code == 403
    session = factories.session()
    answer = client(stranger).get(f"/api/v1/training/status/{session.pk}")
    assert answer.status_code == 200


def test_a_status_has_the_documents_fields(owner: User) -> None:
    now = timezone.now()
    session = factories.session(
        state=State.RUNNING,
        progress=45.5,
        phase="training",
        created_at=now,
        started_at=now,
        current_epoch=9,
        total_epochs=20,
        summary={"latest": {"epoch": 9, "loss": 0.234}},
    )
    body = client(owner).get(f"/api/v1/training/status/{session.pk}").json()
    assert body.pop("started_at").startswith(f"{now:%Y-%m-%dT%H:%M:%S}")
    assert body == {
        "job_id": session.pk,
        "status": "running",
        "phase": "training",
        "progress": 45.5,
        "current_epoch": 9,
        "total_epochs": 20,
        "loss": 0.234,
        "completed_at": None,
        "error": None,
    }


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        (State.QUEUED, "", ("pending", "", None)),
        (State.QUEUED, "The server was stopped.", ("pending", "", None)),
        (State.PAUSED, "", ("running", "paused", None)),
        (State.COMPLETED, "", ("completed", "", None)),
        (State.FAILED, "No memory.", ("failed", "", "No memory.")),
        (State.CANCELLED, "", ("failed", "", "The training was cancelled.")),
    ],
)
def test_the_four_states_of_the_document(
    owner: User, state: State, error: str, expected: tuple[str, str, str | None]
) -> None:
    session = factories.session(state=state, error=error)
    body = client(owner).get(f"/api/v1/training/status/{session.pk}").json()
    assert (body["status"], body["phase"], body["error"]) == expected


def test_an_unknown_job_is_404(owner: User) -> None:
    answer = client(owner).get("/api/v1/training/status/train_20250106_103000")
    assert answer.status_code == 404
    assert "train_20250106_103000" in answer.json()["detail"]


def test_all_trainings_are_listed_the_newest_first_within_the_limit(owner: User) -> None:
    sessions = [factories.session() for _ in range(3)]
    body = client(owner).get("/api/v1/training/jobs?limit=2").json()
    assert body["total"] == 3
    assert [job["job_id"] for job in body["jobs"]] == [sessions[2].pk, sessions[1].pk]
    assert set(body["jobs"][0]) >= {"job_id", "status", "started_at"}
    assert client(owner).get("/api/v1/training/jobs?state=x").status_code == 422


def test_root_paths_lead_to_the_same_doors(owner: User) -> None:
    session = factories.session()
    api = client(owner)
    for path in ("/training/jobs", "/training/jobs/", f"/training/status/{session.pk}", "/jobs/"):
        assert api.get(path).json() == api.get(f"/api/v1{path}").json()
    assert api.post("/training/start", {"dataset_path": "none"}, format="json").status_code == 404
    assert Client().get("/training/jobs").status_code == 401


def test_a_page_of_the_same_path_is_for_those_who_name_html(owner: User) -> None:
    browser = Client()
    browser.force_login(owner)
    assert browser.get("/models/").json() == {"results": [], "total": 0, "skip": 0, "limit": 100}
    for headers in ({"accept": "text/html,*/*;q=0.8"}, {"hx-request": "true"}):
        answer = browser.get("/models/", headers=headers)
        assert answer["Content-Type"].startswith("text/html")


def test_redoc_is_served_from_here_without_a_key() -> None:
    answer = Client().get("/redoc")
    assert answer.status_code == 200
    assert "http" not in answer.content.decode().replace("http-equiv", "")
    policy = answer["Content-Security-Policy"]
    assert "style-src 'self' 'unsafe-inline'" in policy
    assert "script-src" not in policy  # default-src 'self' holds
    assert "unsafe-inline" not in Client().get("/docs")["Content-Security-Policy"]
