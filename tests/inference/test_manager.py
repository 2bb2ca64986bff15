"""The manager and its real workers: load, replace, evict, drain, and what stops it from trying."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from accounts.models import AuditEntry
from inference.models import LoadedModel, State
from inference.services import Wish, load_model, unload_model
from ml.train import model as network
from tests.inference import conftest
from tests.inference.conftest import Ticking, register, register_onnx
from tests.ml.serve.models import write_network, write_onnx
from tests.waiting import has_ended, wait_until

ROWS = {"x": [[1, 2, 3, 4]]}


def load(manager: Ticking, name: str, by: User, **wish: object) -> LoadedModel:
    loaded = load_model(name, by, Wish(**wish))  # type: ignore[arg-type]
    return manager.until_state(loaded, State.READY, State.FAILED)


def ask(name: str) -> list[list[float]]:
    outputs: list[list[float]] = conftest.ask(name, ROWS)["y"]
    return outputs


def test_what_is_wished_for_is_loaded_and_answers(manager: Ticking, owner: User) -> None:
    register_onnx("small")
    loaded = load(manager, "small", owner)
    assert loaded.state == State.READY, loaded.error
    assert loaded.device == "cpu"
    assert loaded.memory_bytes is not None
    assert loaded.memory_bytes > 10e6
    assert loaded.signature is not None
    assert loaded.signature["inputs"][0]["name"] == "x"
    assert len(ask("small")[0]) == 3


def test_a_trained_network_answers_as_its_own_code_does(
    manager: Ticking, owner: User, settings: Settings
) -> None:
    folder = write_network(settings.MODELS_DIR / "colours" / "v1")
    register(folder, name="colours")
    assert load(manager, "colours", owner).state == State.READY
    rows = [{"x": 1.5, "colour": "red"}, {"x": None, "colour": None}]
    outputs = conftest.ask("colours", rows, outputs=["label", "probability"])
    direct = network.predict(folder, rows)
    assert outputs["label"] == [answer["label"] for answer in direct]
    assert outputs["probability"] == [answer["probability"] for answer in direct]


def test_unloading_ends_the_process_and_gives_the_memory_back(
    manager: Ticking, owner: User, settings: Settings
) -> None:
    register_onnx("small")
    loaded = load(manager, "small", owner)
    assert loaded.pid is not None
    process = psutil.Process(loaded.pid)
    unload_model("small", owner)
    manager.until_gone(loaded)
    assert not process.is_running()
    assert list(settings.SOCKETS_DIR.glob("*.sock")) == []


def test_a_killed_worker_is_replaced_and_others_do_not_notice(
    manager: Ticking, owner: User
) -> None:
    register_onnx("one")
    register_onnx("two")
    one, two = load(manager, "one", owner), load(manager, "two", owner)
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)
    killed = one.pid
    manager.until(lambda: LoadedModel.objects.get(pk=one.pk).pid not in (killed, None))
    manager.until_state(one, State.READY)
    assert ask("one")
    assert LoadedModel.objects.get(pk=two.pk).pid == two.pid


def test_a_model_that_ends_its_worker_each_time_is_given_up(manager: Ticking, owner: User) -> None:
    register_onnx("deadly")
    loaded = load_model("deadly", owner, Wish())

    def kill_each() -> bool:
        for worker in manager.workers.values():
            worker.kill()
        LoadedModel.objects.update(retry_at=timezone.now())
        loaded.refresh_from_db()
        return loaded.state == State.FAILED

    manager.until(kill_each)
    assert loaded.error_code == "worker_died"
    assert "SIGKILL" in loaded.error
    assert "tried 3 times" in loaded.error


def test_a_changed_file_is_told_and_not_tried_again(manager: Ticking, owner: User) -> None:
    version = register_onnx("changed")
    with (version.folder / "model.onnx").open("ab") as file:
        file.write(b" ")
    loaded = load(manager, "changed", owner)
    assert (loaded.state, loaded.error_code) == (State.FAILED, "model_refused")
    assert "was changed since it was registered" in loaded.error
    assert AuditEntry.objects.filter(action="model.load_failed").count() == 1


def test_a_failed_model_is_loaded_when_somebody_asks_again(manager: Ticking, owner: User) -> None:
    version = register_onnx("mended")
    path = version.folder / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert load(manager, "mended", owner).state == State.FAILED
    path.write_bytes(whole)
    assert load(manager, "mended", owner).state == State.READY


def test_the_least_recently_used_makes_room(
    manager: Ticking, owner: User, settings: Settings
) -> None:
    settings.MAX_LOADED_MODELS = 2
    for name in ("one", "two", "three"):
        register_onnx(name)
    one, two = load(manager, "one", owner), load(manager, "two", owner)
    used_at = manager.workers[one.pk].used_at
    ask("one")
    manager.until(
        lambda: manager.workers[one.pk].used_at > max(used_at, manager.workers[two.pk].used_at)
    )
    assert load(manager, "three", owner).state == State.READY
    names = set(LoadedModel.objects.values_list("version__model__name", flat=True))
    assert names == {"one", "three"}
    assert AuditEntry.objects.get(action="model.evict").object_id == "two@1"


def test_pinned_models_stay_and_the_refusal_has_the_numbers(
    manager: Ticking, owner: User, settings: Settings
) -> None:
    settings.MAX_LOADED_MODELS = 1
    register_onnx("one")
    register_onnx("two")
    load(manager, "one", owner, is_pinned=True)
    loaded = load(manager, "two", owner)
    assert (loaded.state, loaded.error_code) == (State.FAILED, "no_space")
    assert "Pinned, loading or busy: one@1" in loaded.error
    assert ask("one")


def test_a_model_larger_than_the_budget_is_refused(
    manager: Ticking, owner: User, settings: Settings
) -> None:
    settings.MODEL_MEMORY_MB = 10
    register_onnx("large")
    loaded = load(manager, "large", owner)
    assert loaded.error_code == "no_space"
    assert "of 10 MB" in loaded.error


def test_a_model_unused_for_its_time_is_unloaded(manager: Ticking, owner: User) -> None:
    register_onnx("brief")
    loaded = load(manager, "brief", owner, keep_alive_seconds=1)
    manager.until_gone(loaded)
    assert AuditEntry.objects.filter(action="model.unload").count() == 1


def test_a_deleted_version_leaves_no_process(manager: Ticking, owner: User) -> None:
    version = register_onnx("small")
    loaded = load(manager, "small", owner)
    assert loaded.pid is not None
    process = psutil.Process(loaded.pid)
    version.delete()
    manager.until(lambda: not manager.workers)
    assert not process.is_running()


def test_a_next_manager_loads_what_is_wanted_again(manager: Ticking, owner: User) -> None:
    register_onnx("small")
    first = load(manager, "small", owner).pid
    manager.stop()
    assert first is not None
    assert not psutil.pid_exists(first)
    successor = Ticking()
    successor.begin()
    try:
        loaded = successor.until_state(LoadedModel.objects.get(), State.READY)
        assert loaded.pid != first
    finally:
        successor.stop()


ORPHANS = """
import sys, time
from inference.workers import WorkerProcess
from pathlib import Path
worker = WorkerProcess("orphan", Path(sys.argv[1]), {"folder": sys.argv[2]})
while not worker.is_ready:
    worker.hear()
    time.sleep(0.02)
print(worker.pid, flush=True)
time.sleep(600)
"""


def test_workers_die_with_their_manager(tmp_path: Path, settings: Settings) -> None:
    write_onnx(tmp_path / "model")
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, str(tmp_path), str(tmp_path / "model")],
        stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR,
    )  # fmt: skip
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: has_ended(worker))


@pytest.mark.parametrize("name", ["small", "small@1"])
def test_a_newer_version_does_not_take_the_loaded_one_away(
    manager: Ticking, owner: User, name: str
) -> None:
    register_onnx("small")
    load(manager, "small", owner)
    register_onnx("small")
    assert ask(name)
