"""Faults that tests plant: parsed loudly, counted, and never there by accident."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from ml import failpoints
from tests.servers import ROOT

HIT_TWICE = """
from ml import failpoints
failpoints.hit("result.after_write")
print("one", flush=True)
failpoints.hit("result.after_write")
print("two", flush=True)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_passed", failpoints._passed.__class__())


def plant(monkeypatch: pytest.MonkeyPatch, plan: str, switch: str = "1") -> None:
    monkeypatch.setenv(failpoints.PLAN, plan)
    monkeypatch.setenv(failpoints.SWITCH, switch)


@pytest.mark.parametrize("switch", ["", "0", "true", "yes"])
def test_without_the_switch_a_plan_does_nothing(
    monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    plant(monkeypatch, "result.after_write:kill,nonsense", switch)
    failpoints.hit("result.after_write")


def test_an_error_comes_at_the_passing_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "checkpoint.after_write:ENOSPC@2")
    failpoints.hit("checkpoint.after_write")
    failpoints.hit("checkpoint.after_rename")
    with pytest.raises(OSError, match="No space") as caught:
        failpoints.hit("checkpoint.after_write")
    assert caught.value.errno == errno.ENOSPC
    failpoints.hit("checkpoint.after_write")


def test_any_exception_can_be_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "supervisor.after_tail:raise")
    with pytest.raises(RuntimeError, match=r"supervisor\.after_tail"):
        failpoints.hit("supervisor.after_tail")


def test_a_kill_is_a_kill() -> None:
    environment = {**os.environ, "FAILPOINTS": "1", "FAIL": "result.after_write:kill@2"}
    child = subprocess.run(
        [sys.executable, "-c", HIT_TWICE], env=environment, capture_output=True, check=False
    )
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, b"one\n")


@pytest.mark.parametrize(
    "plan",
    ["result.after_write", "nowhere:kill", "result.after_write:burn", "result.after_write:kill@0"],
)
def test_what_is_not_understood_is_refused(plan: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(plan))):
        failpoints.read_plan(plan)


def test_every_point_is_passed_by_the_code_once_and_every_passing_is_listed() -> None:
    sources = [*(ROOT / "ml").rglob("*.py"), *(ROOT / "sessions").rglob("*.py")]
    sources += (ROOT / "jobs").rglob("*.py")
    passed = [
        name
        for source in sources
        for name in re.findall(r'failpoints\.hit\("([^"]+)"\)', source.read_text())
    ]
    assert sorted(passed) == sorted(failpoints.POINTS)
