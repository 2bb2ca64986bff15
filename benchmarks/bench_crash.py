"""How long the death of a trainer goes unseen.

    python -m benchmarks.bench_crash --rounds 10     (a real server in a temporary folder)

Goals (design, training.md): a trainer that crashed is seen within 5 s; one that vanished together
with its launcher and the workers that supervise it, as with its machine, within 60 s. Seen is when
the API no longer says that this attempt runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.figures import begin, tell
from tests.servers import Stack, serving

ROUNDS, PATIENCE_SECONDS = 10, 180.0
CONFIG = {"dataset": "digits", "epochs": 1000, "device": "cpu", "seed": 1}
CRASH, MACHINE = ("ml.train",), ("ml.train", "ml.launch", "qcluster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    begin()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving(Path(folder)) as stack:
        for what, words, goal in (
            ("crash of a trainer seen", CRASH, 5),
            ("death of trainer, launcher and workers seen", MACHINE, 60),
        ):
            seconds = [measure(stack, words) for _ in range(rounds)]
            more = f"median of {rounds}, most {max(seconds):.2f}"
            tell(what, statistics.median(seconds), "s", at_most=goal, more=more)


def measure(stack: Stack, words: tuple[str, ...]) -> float:
    with stack.client() as client:
        address = "/api/v1/sessions/"
        session = client.post(address, json=CONFIG).raise_for_status().json()["id"]
        address += session
        wait(lambda: client.get(address).json()["current_epoch"] or 0)
        attempt = client.get(address).json()["attempt"]
        for process in (each for word in words for each in stack.processes(word)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        began = time.monotonic()
        wait(lambda: is_seen(client.get(address).json(), attempt))
        seconds = time.monotonic() - began
        client.post(f"{address}/cancel").raise_for_status()
        stack.wait_for(session, "cancelled")
    return seconds


def is_seen(session: dict[str, object], attempt: int) -> bool:
    return session["state"] != "running" or session["attempt"] != attempt


def wait(found: Callable[[], object]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not found():
        if time.monotonic() > ends_at:
            raise TimeoutError("nothing came")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
