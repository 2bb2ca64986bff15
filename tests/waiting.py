"""How tests wait: for a fact, looked at again and again, as long as a slow machine may need."""

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

PATIENCE_SECONDS = 250  # less than a test's own limit: what the first one missed is told
PAUSES_SECONDS = (0.01, 0.3)  # longer and longer: some looks cost more than what they wait for

Found = TypeVar("Found")


def wait_until(
    look: Callable[[], Found | None],
    told: Callable[[], object] = lambda: "",
    seconds: float = PATIENCE_SECONDS,
) -> Found:
    """What `look` finds as soon as it is true; `told` says what there was instead."""
    ends_at = time.monotonic() + seconds
    pause, longest = PAUSES_SECONDS
    while not (found := look()):
        assert time.monotonic() < ends_at, told()
        time.sleep(pause)
        pause = min(1.2 * pause, longest)
    return found


def has_ended(process: psutil.Process | int) -> bool:
    """A zombie has ended, too: only its parent has not yet looked."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
