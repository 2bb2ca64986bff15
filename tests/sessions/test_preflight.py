"""What is known before a training starts: through REST, with the real child and trainer."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from datasets.models import DatasetVersion
from datasets.services import import_upload, register_builtin
from jobs.holds import hold_queue
from jobs.models import Job, State
from sessions import devices, preflight
from sessions.devices import Device, find_device
from sessions.models import TrainingSession
from tests import factories

pytestmark = pytest.mark.django_db
GIB = 2**30


@pytest.fixture
def iris(db: None) -> DatasetVersion:
    return register_builtin("iris")


def ask(user: User, **body: Any) -> Any:
    client = Client()
    client.force_login(user)
    path = "/api/v1/sessions/preflight"
    return client.post(path, json.dumps(body), content_type="application/json")


def arithmetic(owner: User, **config: Any) -> dict[str, Any]:
    return preflight.preflight({"dataset": "iris", **config}, owner=owner, look=False)


def complete(owner: User, version: DatasetVersion, seconds: float, **config: Any) -> None:
    """An earlier session that took so long."""
    now = timezone.now()
    factories.session(
        owner=owner,
        dataset_version=version,
        state=State.COMPLETED,
        attempt=1,
        started_at=now - timedelta(seconds=seconds + 4),
        finished_at=now,
        result={"duration_seconds": seconds},
        current_epoch=10,
        summary={"environment": {"device": "cpu"}},
        config=preflight.check_everything({"dataset": str(version), **config}, "")[0].to_dict(),
    )


def test_a_preflight_says_what_a_training_would_take_and_starts_nothing(
    owner: User, iris: DatasetVersion
) -> None:
    answer = ask(owner, dataset="iris", epochs=3, batch_size=16, device="cpu")
    assert answer.status_code == 200, answer.content
    report = answer.json()
    assert report["fits"] is True
    assert report["steps"] == {
        "training_samples": 120,
        "validation_samples": 30,
        "steps_per_epoch": 8,
        "steps": 24,
    }
    assert len(report["samples"]["rows"]) == 5
    assert "classification with mlp" in report["dataset"]["description"][0]
    assert report["memory"]["parts"]["parameters"] == 4675
    assert report["memory"]["needed_bytes"] < report["memory"]["free_bytes"]
    assert report["disk"]["checkpoint_bytes"] == 4675 * 4 * 3
    assert report["disk"]["prepared_bytes"] == 150 * 5 * 4  # cells of 4 bytes
    assert report["queue"]["starts_at_once"] is True
    assert report["time"]["seconds"] is None
    assert "No session of recipe network" in report["time"]["reason"]
    assert not TrainingSession.objects.exists()


def test_everything_that_is_wrong_is_named_at_once(owner: User, iris: DatasetVersion) -> None:
    answer = ask(owner, dataset="iri", epochs=0, learning_rat=1, name="a/b/c")
    assert answer.status_code == 422
    fields = {error["field"] for error in answer.json()["errors"]}
    assert fields == {"dataset", "epochs", "learning_rat", "name"}


def test_what_does_not_fit_the_dataset_is_named_too(owner: User, iris: DatasetVersion) -> None:
    answer = ask(owner, dataset="iris", architecture="cnn", name="a/b/c")
    assert {error["field"] for error in answer.json()["errors"]} == {"architecture", "name"}


def test_data_that_cannot_be_learned_from_is_found_before_the_queue(owner: User) -> None:
    register_builtin("diabetes")
    answer = ask(owner, dataset="diabetes", loss_function="bce", task="classification")
    assert answer.status_code == 422
    assert "classes" in answer.json()["detail"]


def test_a_viewer_may_not_ask(stranger: User, iris: DatasetVersion) -> None:
    assert ask(stranger, dataset="iris").status_code == 403


def test_while_typing_arithmetic_gives_the_same_sizes(owner: User, iris: DatasetVersion) -> None:
    report = arithmetic(owner, device="cpu")
    assert report["samples"] is None
    assert report["memory"]["parts"]["parameters"] == 4675


def test_time_follows_from_sessions_like_this_one(owner: User, iris: DatasetVersion) -> None:
    complete(owner, iris, 10.0)
    complete(owner, iris, 20.0)
    complete(owner, iris, 500.0, hidden_sizes=[512])
    time = arithmetic(owner, device="cpu", epochs=20)["time"]
    assert (time["sessions"], time["alike"]) == (2, True)
    assert time["low_seconds"] == pytest.approx(4 + 20, abs=0.1)
    assert time["high_seconds"] == pytest.approx(4 + 40, abs=0.1)
    assert time["low_seconds"] < time["seconds"] < time["high_seconds"]


def test_other_networks_are_better_than_nothing_and_said_to_be_others(
    owner: User, iris: DatasetVersion
) -> None:
    complete(owner, iris, 10.0, hidden_sizes=[512])
    time = arithmetic(owner, device="cpu")["time"]
    assert (time["sessions"], time["alike"]) == (1, False)


def test_a_session_on_a_gpu_says_nothing_of_the_cpu(owner: User, iris: DatasetVersion) -> None:
    complete(owner, iris, 10.0)
    TrainingSession.objects.update(summary={"environment": {"device": "cuda:0"}})
    assert arithmetic(owner, device="cpu")["time"]["seconds"] is None


def test_the_place_in_the_queue_and_what_holds_it(
    owner: User, teammate: User, iris: DatasetVersion, settings: Settings
) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    factories.job(owner=owner, state=State.RUNNING, started_at=timezone.now())
    factories.job(owner=teammate)
    hold_queue("train", reason="Maintenance.", by="admin")
    queue = arithmetic(owner)["queue"]
    assert queue == {
        "place": 2,
        "running": 1,
        "free_seats": 0,
        "held": ["Maintenance."],
        "starts_at_once": False,
    }


def test_too_little_memory_is_a_warning_with_the_numbers(
    owner: User, iris: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Device(kind="cuda", name="a GPU", free_bytes=GIB // 4, total_bytes=GIB)
    monkeypatch.setattr(preflight, "find_device", lambda wanted: small)
    report = arithmetic(owner)
    assert report["fits"] is False
    assert any("0.2 GiB are free" in warning for warning in report["warnings"])


def test_memory_that_nobody_can_read_is_not_judged(
    owner: User, iris: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Device(kind="cuda", name="x", free_bytes=None, total_bytes=None, reason="N/A")
    monkeypatch.setattr(preflight, "find_device", lambda wanted: silent)
    report = arithmetic(owner)
    assert (report["memory"]["fits"], report["memory"]["reason"]) == (None, "N/A")
    assert report["fits"] is True


def test_a_full_disk_is_a_warning(
    owner: User, iris: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "MINIMUM_FREE_BYTES", 2**62)
    report = arithmetic(owner)
    assert report["fits"] is False
    assert any("keep fewer checkpoints" in warning for warning in report["warnings"])


def test_a_batch_larger_than_the_data_is_a_warning(owner: User, iris: DatasetVersion) -> None:
    assert any(
        "every epoch is one step" in w for w in arithmetic(owner, batch_size=999)["warnings"]
    )


def test_a_gpu_that_is_not_there_is_said_before_it_fails(
    owner: User, iris: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoGpu:
        def read(self, tier: object) -> tuple[list[Any], str]:
            return [], "No NVIDIA driver found."

        def close(self) -> None: ...

    monkeypatch.setattr(devices, "GpuReader", NoGpu)
    assert find_device("auto").kind == "cpu"
    report = arithmetic(owner, device="cuda:3")
    assert "device cuda:3: This machine has no GPU 3. It would fail." in report["warnings"]


@pytest.mark.slow
def test_a_dry_run_really_trains_and_leaves_nothing(
    owner: User, iris: DatasetVersion, settings: Settings
) -> None:
    answer = ask(owner, dataset="iris", epochs=500, device="cpu", dry_run=True)
    assert answer.status_code == 200, answer.content
    measured = answer.json()["dry_run"]
    assert measured["error"] is None
    assert measured["seconds_per_step"] > 0
    assert measured["peak_memory_bytes"] > 50 * 2**20
    assert measured["projected_seconds"] > measured["start_seconds"]
    assert list(settings.RUNS_DIR.iterdir()) == []
    assert not Job.objects.filter(kind="train").exists()


@pytest.mark.slow
def test_a_dry_run_that_fails_says_why(owner: User, iris: DatasetVersion) -> None:
    answer = ask(owner, dataset="iris", device="cuda:7", dry_run=True)
    error = answer.json()["dry_run"]["error"]
    assert error["code"] == "spec_error"
    assert "cuda:7" in error["message"]


def test_a_dry_run_is_refused_while_every_seat_is_taken(
    owner: User, iris: DatasetVersion, settings: Settings
) -> None:
    settings.MAX_CONCURRENT_SESSIONS = 1
    factories.job(state=State.RUNNING, started_at=timezone.now())
    answer = ask(owner, dataset="iris", dry_run=True)
    assert answer.status_code == 409
    assert answer.json()["code"] == "busy"


@pytest.mark.slow
def test_texts_are_shown_as_their_tokens(owner: User) -> None:
    lines = [{"text": f"def f{n}(x): return x + {n}", "label": "ab"[n % 2]} for n in range(40)]
    data = "\n".join(map(json.dumps, lines)).encode()
    import_upload(owner=owner, name="code", upload=SimpleUploadedFile("code.jsonl", data))
    tiny = {"hidden_size": 16, "heads": 2, "layers": 1, "vocabulary_size": 300}
    answer = ask(owner, dataset="code", recipe="classify", from_scratch=True, **tiny)
    assert answer.status_code == 200, answer.content
    report = answer.json()
    text, tokens, pieces, learned = report["samples"]["rows"][0]
    assert "def f0(x)" in text
    assert tokens >= len(pieces.split()) > 5
    assert learned == "a (class 0)"
    assert report["memory"]["parts"]["parameters"] > 1000


def test_texts_without_a_look_say_what_would_tell_their_size(owner: User) -> None:
    upload = SimpleUploadedFile("t.jsonl", b'{"text": "a b", "label": "x"}\n' * 4)
    import_upload(owner=owner, name="texts", upload=upload)
    config = {"dataset": "texts", "recipe": "causal", "from_scratch": True}
    report = preflight.preflight(config, owner=owner, look=False)
    assert report["memory"]["needed_bytes"] is None
    assert "looked at" in report["memory"]["reason"]
    assert report["steps"] is None  # packed into blocks that nobody has counted
    unpacked = preflight.preflight({**config, "packing": False}, owner=owner, look=False)
    assert unpacked["steps"]["training_samples"] == 3


def test_data_that_takes_too_long_to_open_is_a_warning(
    owner: User, iris: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LOOK_SECONDS", 0.01)
    report = preflight.preflight({"dataset": "iris", "epochs": 1}, owner=owner)
    assert preflight.TOO_LARGE in report["warnings"]
    assert report["samples"] is None
    assert report["fits"]
