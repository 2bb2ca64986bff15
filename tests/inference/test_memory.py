"""Room for models: who leaves for whom by arithmetic, and real megabytes that come back."""

import os
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from inference.memory import MEGABYTE, Holder, choose_leavers
from inference.models import LoadedModel, State
from inference.services import Wish, load_model, unload_model
from mlserver.lib.errors import NoSpace
from tests.inference.conftest import Ticking, register
from tests.ml.serve.models import write_onnx


def holder(key: int, *, size: int = 200, may_go: bool = True) -> Holder:
    return Holder(
        key=key, name=f"m{key}", size_bytes=size * MEGABYTE, used_at=float(key), may_go=may_go
    )


def leave(holders: list[Holder], needed: int, budget: int, most: int = 10) -> list[int]:
    chosen = choose_leavers(
        holders, needed_bytes=needed * MEGABYTE, budget_bytes=budget * MEGABYTE, most=most
    )
    return [each.key for each in chosen]


def test_nobody_leaves_while_there_is_room() -> None:
    assert leave([holder(1)], 200, 500) == []


def test_the_longest_unused_leave_as_many_as_are_needed() -> None:
    assert leave([holder(3), holder(1), holder(2)], 200, 700) == [1]
    assert leave([holder(3), holder(1), holder(2)], 500, 700) == [1, 2]


def test_who_may_not_go_is_passed_over() -> None:
    assert leave([holder(1, may_go=False), holder(2)], 200, 500) == [2]


def test_too_many_are_too_many_however_small() -> None:
    assert leave([holder(1, size=1), holder(2, size=1)], 1, 500, most=2) == [1]


def test_where_nobody_can_go_the_numbers_are_told() -> None:
    with pytest.raises(NoSpace) as caught:
        leave([holder(1, may_go=False), holder(2, may_go=False)], 200, 500)
    for part in ("about 200 MB", "of 500 MB", "400 are taken", "m1, m2", "MODEL_MEMORY_MB"):
        assert part in caught.value.detail


@pytest.mark.slow
def test_five_models_of_two_hundred_megabytes_in_five_hundred(
    manager: Ticking, owner: User, settings: Settings
) -> None:
    settings.MODEL_MEMORY_MB = 500
    first = write_onnx(settings.MODELS_DIR / "m1" / "v1", sizes=(4, 5000, 8000, 3))
    for number in range(1, 6):
        folder = settings.MODELS_DIR / f"m{number}" / "v1"
        link(first, folder)
        register(folder, name=f"m{number}", framework="onnx")

    one = load(manager, "m1", owner)
    assert one.memory_bytes is not None
    assert 150e6 < one.memory_bytes < 250e6
    load(manager, "m2", owner, is_pinned=True)
    for name in ("m3", "m4", "m5"):
        load(manager, name, owner)
        names = set(LoadedModel.objects.values_list("version__model__name", flat=True))
        assert names == {"m2", name}

    load_model("m5", owner, Wish(is_pinned=True))
    refused = manager.until_state(load_model("m1", owner, Wish()), State.FAILED)
    assert refused.error_code == "no_space"
    assert "of 500 MB" in refused.error

    before = resident_bytes(manager)
    unload_model("m2", owner)
    manager.until(lambda: len(manager.workers) == 1)
    assert before - resident_bytes(manager) > 150e6


def link(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / file.name).exists():
        os.link(file, folder / file.name)


def load(manager: Ticking, name: str, by: User, *, is_pinned: bool = False) -> LoadedModel:
    loaded = load_model(name, by, Wish(is_pinned=is_pinned))
    manager.until_state(loaded, State.READY, State.FAILED)
    assert loaded.state == State.READY, loaded.error
    return loaded


def resident_bytes(manager: Ticking) -> int:
    workers = [psutil.Process(each.pid) for each in manager.workers.values()]
    return sum(each.memory_info().rss for each in workers)
