"""From the request for a training to its first step, with a warm trainer and without.

    python -m benchmarks.bench_start --rounds 5         (two real servers in temporary folders)

Goal (design, training.md): at most 2 s with a warm trainer. Rounds alternate between the two
servers, so that whatever else the machine does falls on both; the first step's time is the
trainer's own, the queue's share is what passes before the launcher owns the run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.figures import begin, tell
from ml.rundir import RunDir, read_events
from tests.servers import Stack, serving

ROUNDS, GOAL_SECONDS, PATIENCE_SECONDS = 5, 2.0, 120.0
CONFIG = {"dataset": "digits", "epochs": 2, "device": "cpu", "seed": 1}


@dataclass(frozen=True)
class Start:
    """Seconds after the request."""

    owned: float
    first_step: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with ExitStack() as opened:
        servers = {
            name: opened.enter_context(
                serving(
                    Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))),
                    WARM_TRAINER=flag,
                )
            )
            for name, flag in (("cold", "0"), ("warm", "1"))
        }
        wait_until(lambda: (servers["warm"].var_dir / "run" / "trainer.sock").exists())
        starts = {name: [measure(stack)] for name, stack in servers.items()}
        for _ in range(rounds - 1):
            for name, stack in servers.items():
                starts[name].append(measure(stack))
        [spare] = servers["warm"].processes("ml.train.warm")
        memory = spare.memory_full_info().uss / 2**20
    begin()
    for name, goal in (("cold", None), ("warm", GOAL_SECONDS)):
        row(f"request → first step, {name}", [each.first_step for each in starts[name]], goal)
        row(f"{name}: of it until the run is owned", [each.owned for each in starts[name]])
    print(f"\nThe warm trainer keeps {memory:.0f} MiB of its own.")


def row(what: str, seconds: list[float], goal: float | None = None) -> None:
    each = ", ".join(f"{value:.2f}" for value in seconds)
    tell(what, statistics.median(seconds), "s", at_most=goal, more=each)


def measure(stack: Stack) -> Start:
    """One session on an idle server; the next one finds its seat free again."""
    with stack.client() as client:
        asked = time.time()
        response = client.post("/api/v1/sessions/", json=CONFIG)
        response.raise_for_status()
        session = response.json()["id"]
    run = RunDir(stack.var_dir / "runs" / session)
    wait_until(lambda: bool(first_step(run)))
    stepped = datetime.fromisoformat(first_step(run)[0]["at"]).timestamp()
    owned = run.lock_path.stat().st_mtime
    stack.wait_for(session, "completed")
    return Start(owned - asked, stepped - asked)


def first_step(run: RunDir) -> list[dict[str, str]]:
    found, _ = read_events(run.journal_path(1), 0)
    return [event for event in found if event["type"] == "step"][:1]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing came")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
