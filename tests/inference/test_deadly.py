"""Models that crash their worker or take all memory: they fail with the reason, alone."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from inference.client import NotAnswering
from inference.models import LoadedModel, State
from inference.services import Wish, load_model
from mlserver.lib.errors import Invalid
from tests.inference.conftest import Ticking, ask, register, register_onnx
from tests.ml.serve.deadly import DEADLY, write_crasher, write_deep, write_glutton
from tests.ml.serve.models import write_hog

ROWS = {"x": [[1, 2, 3, 4]]}


@pytest.fixture
def models(settings: Settings) -> Path:
    return Path(settings.MODELS_DIR)


@pytest.fixture
def neighbour(manager: Ticking, owner: User) -> LoadedModel:
    register_onnx("neighbour")
    return manager.until_state(load_model("neighbour", owner, Wish()), State.READY)


def stands(neighbour: LoadedModel) -> bool:
    """It answers, and from the same process."""
    pid = neighbour.pid
    neighbour.refresh_from_db()
    return len(ask("neighbour", ROWS)["y"]) == 1 and neighbour.pid == pid


def hurry() -> None:
    """What waits for its next try is due."""
    LoadedModel.objects.exclude(retry_at=None).update(retry_at=timezone.now())


def test_one_that_segfaults_while_it_is_loaded_is_given_up_with_the_signal(
    manager: Ticking, owner: User, neighbour: LoadedModel, models: Path
) -> None:
    register(write_deep(models / "deep" / "v1"), name="deep")
    loaded = load_model("deep", owner, Wish())

    def is_given_up() -> bool:
        hurry()
        loaded.refresh_from_db()
        return loaded.state == State.FAILED

    manager.until(is_given_up)
    assert loaded.error_code == "worker_died"
    assert re.search(r"ended by SIG(SEGV|BUS).*tried 3 times", loaded.error), loaded.error
    for _ in range(5):
        manager.tick()
    assert set(manager.workers) == {neighbour.pk}, "it is not tried for ever"
    assert stands(neighbour)


def test_one_that_takes_all_memory_while_it_is_loaded_is_told_the_limit(
    manager: Ticking, owner: User, neighbour: LoadedModel, models: Path
) -> None:
    write_hog(models / "hog" / "v1")
    register(models / "hog" / "v1", name="hog")
    loaded = manager.until_state(load_model("hog", owner, Wish()), State.FAILED)

    assert loaded.error_code == "model_refused"
    assert re.search(r"needs more memory than it may have \([\d,]+ MB\)", loaded.error)
    assert loaded.stumbles == 0
    assert stands(neighbour)


def test_one_that_takes_all_memory_for_an_answer_refuses_it_and_goes_on(
    manager: Ticking, owner: User, neighbour: LoadedModel, models: Path
) -> None:
    register(write_glutton(models / "glutton" / "v1"), name="glutton")
    loaded = manager.until_state(load_model("glutton", owner, Wish()), State.READY)

    with pytest.raises(Invalid, match="needs more memory than it may have"):
        ask("glutton", {"x": [2**36]})
    assert ask("glutton", {"x": [5]}) == {"y": [0.0]}
    manager.tick()
    assert LoadedModel.objects.get(pk=loaded.pk).pid == loaded.pid
    assert stands(neighbour)


def test_one_that_segfaults_over_an_answer_comes_back(
    manager: Ticking, owner: User, neighbour: LoadedModel, models: Path
) -> None:
    register(write_crasher(models / "crasher" / "v1"), name="crasher", framework="torch.export")
    loaded = manager.until_state(load_model("crasher", owner, Wish()), State.READY)
    assert ask("crasher", {"x": [2]}) == {"y": [-11.0]}

    with pytest.raises(NotAnswering):
        ask("crasher", {"x": [DEADLY]})
    manager.until(lambda: LoadedModel.objects.get(pk=loaded.pk).retry_at is not None)
    loaded.refresh_from_db()
    assert (loaded.stumbles, loaded.state) == (1, State.WAITING)
    assert "ended by SIGSEGV" in loaded.error
    hurry()
    manager.until_state(loaded, State.READY)
    assert ask("crasher", {"x": [2]}) == {"y": [-11.0]}
    assert stands(neighbour)
