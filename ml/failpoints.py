"""Named places where a test lets this process die, stop, or see a write fail.

`FAIL="checkpoint.after_write:kill,journal.before_line:EIO@2"` plants one fault a point, at its
first or n-th passing in a process. It is read only where FAILPOINTS=1, which only tests set.
Standard library only; trainer, launcher and supervisor pass the points.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections import Counter
from functools import cache

SWITCH = "FAILPOINTS"
PLAN = "FAIL"

TRAINER_POINTS = (
    "checkpoint.before_write",
    "checkpoint.after_write",
    "checkpoint.after_rename",
    "checkpoint.before_manifest",
    "checkpoint.after_manifest",
    "evaluation.before_batch",
    "journal.before_line",
    "journal.after_line",
    "prune.before_rename",
    "prune.before_delete",
    "export.before_write",
    "export.after_write",
    "export.after_rename",
    "result.before_write",
    "result.after_write",
)
LAUNCHER_POINTS = (
    "launcher.before_lock",
    "launcher.after_lock",
    "launcher.after_start",
    "launcher.before_exit",
    "launcher.after_exit",
)
SUPERVISOR_POINTS = (
    "supervisor.after_claim",
    "supervisor.before_launch",
    "supervisor.after_launch",
    "supervisor.after_tail",
    "supervisor.before_commit",
    "supervisor.after_commit",
    "supervisor.before_register",
    "supervisor.after_register",
    "supervisor.before_requeue",
    "supervisor.before_end",
    "supervisor.after_end",
)
POINTS = TRAINER_POINTS + LAUNCHER_POINTS + SUPERVISOR_POINTS

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
ACTIONS = (*SIGNALS, *ERRORS, "oom", "raise")
ENTRY = re.compile(rf"([a-z_.]+):({'|'.join(ACTIONS)})(?:@([1-9]\d*))?")

_passed: Counter[str] = Counter()


def hit(point: str) -> None:
    """Pass a point: nothing happens, unless a test has planted a fault here."""
    if os.environ.get(SWITCH) == "1":
        _act(point, read_plan(os.environ.get(PLAN, "")))


@cache
def read_plan(text: str) -> dict[str, tuple[str, int]]:
    """Point to action and the passing at which it acts; ValueError for what is not known."""
    plan = {}
    for entry in filter(None, text.split(",")):
        found = ENTRY.fullmatch(entry)
        if found is None or found[1] not in POINTS:
            raise ValueError(
                f"{PLAN}: {entry!r} is not POINT:ACTION or POINT:ACTION@N with one of the points"
                f" {', '.join(POINTS)} and one of the actions {', '.join(ACTIONS)}"
            )
        plan[found[1]] = (found[2], int(found[3] or 1))
    return plan


def _act(point: str, plan: dict[str, tuple[str, int]]) -> None:
    if point not in plan:
        return
    action, number = plan[point]
    _passed[point] += 1
    if _passed[point] != number:
        return
    if action in SIGNALS:
        os.kill(os.getpid(), SIGNALS[action])
    elif action in ERRORS:
        raise OSError(ERRORS[action], os.strerror(ERRORS[action]), point)
    elif action == "oom":
        raise sys.modules["torch"].OutOfMemoryError(f"CUDA out of memory, planted at {point}")
    else:
        raise RuntimeError(f"a test planted this fault at {point}")
