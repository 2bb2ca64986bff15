"""kill -9 at random moments in a whole running server; then counts what was lost.

    python -m benchmarks.chaos --kills 300 --seed 1

Trainers, launchers, supervising workers, the whole GPU cluster, and everything at once die
while trainings run one after the other. Goal (design, training.md): 0 epochs lost, 0
duplicates, 0 double runs, 0 orphans, the very weights of an undisturbed training.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from ml.rundir import RunDir
from tests.chaos.checks import check_no_double_run, weights_of
from tests.servers import Stack, run_django, serving, start_server, wait_until_ready

Found = TypeVar("Found")
VICTIMS = {"trainer": 10, "launcher": 5, "worker": 2, "cluster": 2, "everything": 1}
EPOCHS = 60
CONFIG: dict[str, Any] = {
    "dataset": "digits",
    "architecture": "mlp",
    "epochs": EPOCHS,
    "batch_size": 32,
    "seed": 1,
    "device": "cpu",
}
LONGEST_PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 240.0
# Seldom twice at an epoch: a session waits longer and longer to be tried again there.
KILLS_WITHOUT_PROGRESS = (1,) * 9 + (2,)
START = """
import json
from django.contrib.auth.models import User
from jobs.models import Job
from sessions.services import start_session
session = start_session(owner=User.objects.get(), config=json.loads({config!r}))
Job.objects.filter(pk=session.pk).update(retries=1_000_000)
print(json.dumps(session.pk))
"""
TELL = """
import json
from models_registry.models import ModelVersion
from sessions.models import EpochMetric
epochs = EpochMetric.objects.filter(session_id={session!r}).order_by("epoch")
models = ModelVersion.objects.filter(source_session={session!r})
print(json.dumps([list(epochs.values_list("epoch", flat=True)), models.count()]))
"""


class Chaos:
    def __init__(self, stack: Stack, seed: int, victims: dict[str, int]) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.victims = victims
        self.killed: Counter[str] = Counter()
        self.sessions = [self.start()]
        self.seen = 0  # epochs of the current session
        self.fruitless = 0

    def run(self, kills: int, minutes: float = 600) -> None:
        """Kill so often; then let the training that is under way come to its end."""
        ends_at = time.monotonic() + minutes * 60
        while self.killed.total() < kills and time.monotonic() < ends_at:
            if self.fruitless >= self.random.choice(KILLS_WITHOUT_PROGRESS):
                wait_until(self._has_progressed)
            time.sleep(self.random.uniform(0, LONGEST_PAUSE_SECONDS))
            self._has_progressed()
            kinds, weights = list(self.victims), list(self.victims.values())
            self._kill(self.random.choices(kinds, weights)[0])
        self.stack.wait_for(self.sessions[-1], "completed", seconds=PATIENCE_SECONDS)

    def start(self) -> str:
        """A new training, which may die as often as it likes."""
        self.seen = self.fruitless = 0
        return str(run_django(START.format(config=json.dumps(CONFIG)), self.stack.env))

    def _has_progressed(self) -> bool:
        """Whether epochs were told since the last call that said so; starts the next session."""
        with self.stack.client() as client:
            found = client.get(f"/api/v1/sessions/{self.sessions[-1]}").raise_for_status().json()
        if found["state"] == "failed":
            raise RuntimeError(f"{found['id']} failed: {found['error']}")
        if found["state"] == "completed":
            self.sessions.append(self.start())
            return True
        has_progressed = bool(found["current_epoch"] > self.seen)
        self.seen = found["current_epoch"]
        self.fruitless = 0 if has_progressed else self.fruitless
        return has_progressed

    def _kill(self, kind: str) -> None:
        found = wait_until(lambda: self._find(kind) or self._go_on())
        for process in found:
            with suppress(psutil.NoSuchProcess):  # it died with the one before
                process.kill()
        psutil.wait_procs(found, timeout=10)
        self.killed[kind] += 1
        self.fruitless += kind in ("trainer", "launcher", "everything")
        if kind == "everything":
            self.stack.process.wait()
            self.stack.process = start_server(httpx.URL(self.stack.url).port or 0, self.stack.env)
            wait_until_ready(self.stack)

    def _go_on(self) -> list[psutil.Process]:
        """Nobody to kill yet: the training may just have ended, and the next one must begin."""
        self._has_progressed()
        return []

    def _find(self, kind: str) -> list[psutil.Process]:
        if kind == "trainer":
            return self.stack.processes("ml.train")
        if kind == "launcher":
            return self.stack.processes("ml.launch")
        if kind == "everything":
            return self.stack.processes()
        gpu = [each for each in self.stack.processes("qcluster") if _cluster_of(each) == "gpu"]
        return gpu if kind == "cluster" else [self.random.choice(gpu)] if gpu else []


def _cluster_of(process: psutil.Process) -> str | None:
    try:
        return str(process.environ().get("Q_CLUSTER_NAME"))
    except psutil.Error:  # it is gone
        return None


def wait_until(found: Callable[[], Found]) -> Found:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends_at:
        with suppress(httpx.HTTPError):  # the web server is on its way back
            if answer := found():
                return answer
        time.sleep(0.1)
    raise RuntimeError(f"nothing came back within {PATIENCE_SECONDS:.0f} seconds")


def count_damage(stack: Stack, sessions: list[str], weights: str) -> dict[str, int]:
    """What should be 0 after any number of kills."""
    damage = dict.fromkeys(("epochs lost", "epochs twice", "double runs", "other weights"), 0)
    damage["models missing or twice"] = 0
    expected = set(range(1, EPOCHS + 1))
    for session in sessions:
        epochs, models = run_django(TELL.format(session=session), stack.env)
        run = RunDir(stack.var_dir / "runs" / session)
        damage["epochs lost"] += len(expected - set(epochs))
        damage["epochs twice"] += len(epochs) - len(set(epochs))
        damage["double runs"] += _is_broken(run)
        damage["other weights"] += weights_of(run) != weights
        damage["models missing or twice"] += models != 1
    return damage


def _is_broken(run: RunDir) -> bool:
    try:
        check_no_double_run(run)
    except AssertionError:
        return True
    return False


def unleash(
    var_dir: Path, kills: int, seed: int, minutes: float = 600, **victims: int
) -> tuple[Chaos, dict[str, int]]:
    """Run it against a server of its own; the kills and the damage."""
    with serving(var_dir, MAX_CONCURRENT_SESSIONS="1") as stack:
        chaos = Chaos(stack, seed, victims or VICTIMS)
        undisturbed = chaos.sessions.pop()
        stack.wait_for(undisturbed, "completed", seconds=PATIENCE_SECONDS)
        weights = weights_of(RunDir(var_dir / "runs" / undisturbed))
        chaos.sessions.append(chaos.start())
        chaos.run(kills, minutes)
        damage = count_damage(stack, chaos.sessions, weights)
    damage["orphans"] = len(stack.processes())
    return chaos, damage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600, help="stop killing after so long")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        chaos, damage = unleash(Path(folder), options.kills, options.seed, options.minutes)
    told: dict[str, Any] = {"seed": options.seed, "minutes": (time.monotonic() - began) / 60}
    told |= {f"killed: {kind}": count for kind, count in chaos.killed.most_common()}
    told |= {"killed in all": chaos.killed.total(), "trainings": len(chaos.sessions), **damage}
    print("| what | count |\n|---|---|")
    for what, count in told.items():
        print(f"| {what} | {count:.4g} |")
    return 1 if any(damage.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
