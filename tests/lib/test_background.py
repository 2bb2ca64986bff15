"""Children that outlive their caller: found again by their folder, ended by their lock."""

from pathlib import Path

import pytest

from mlserver.lib.background import BackgroundChild
from mlserver.lib.children import GIB, ChildCrashed, ChildRefused
from tests.waiting import wait_until

LIMITS = {"cpu_seconds": 60, "memory_bytes": 4 * GIB}


def ended(folder: Path, verb: str, payload: dict[str, object]) -> BackgroundChild:
    BackgroundChild(folder).start(verb, payload, **LIMITS)
    again = BackgroundChild(folder)  # as another process would know it
    wait_until(lambda: not again.is_running())
    return again


def test_the_answer_is_there_when_it_has_ended(tmp_path: Path) -> None:
    child = ended(tmp_path / "c", "list_builtins", {})

    assert child.answer()[0]["name"] == "digits"
    child.remove()
    assert not child.has_begun()


def test_a_refusal_is_raised_with_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(ChildRefused, match="no dataset version"):
        ended(tmp_path / "c", "statistics", {"folder": str(tmp_path)}).answer()


def test_it_runs_until_it_is_stopped(tmp_path: Path) -> None:
    child = BackgroundChild(tmp_path / "c")
    child.start("list_builtins", {}, **LIMITS)
    assert child.is_running()
    child.stop()
    wait_until(lambda: not child.is_running())

    with pytest.raises(ChildCrashed, match="without an answer"):
        child.answer()
    child.stop()  # once more does no harm


def test_a_start_that_was_cut_off_is_no_running_child(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    child = BackgroundChild(tmp_path / "c")

    assert child.has_begun()
    assert not child.is_running()
    with pytest.raises(ChildCrashed):
        child.answer()
