"""What each reading costs on this machine: the bill of the sampler, measured, not guessed."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ml.hardware.amd import AmdReader
from ml.hardware.gpus import GpuReader
from ml.hardware.host import HostReader
from ml.hardware.nvidia import NvidiaReader
from ml.hardware.processes import ProcessReader
from ml.hardware.readings import Observer, Tier

LOOKS = 5
PAUSE_SECONDS = 0.2
PERIODS = {Tier.FAST: 1, Tier.MEDIUM: 5, Tier.SLOW: 60}


@dataclass
class Cost:
    """One call: how long it took each time, and what it answered instead of a reading."""

    name: str
    seconds: list[float] = field(default_factory=list)
    problem: str = ""


@dataclass
class Bill:
    calls: list[Cost]
    cpu_seconds: dict[Tier, float]
    """Processor time of one look of each tier."""

    no_gpu: str | None

    @property
    def share_of_a_core(self) -> float:
        """Percent of one core that sampling takes for ever, a look of each tier in its turn."""
        return 100 * sum(self.cpu_seconds[tier] / period for tier, period in PERIODS.items())


def measure_costs(disk_path: Path) -> Bill:
    """Takes about three seconds; the first, more expensive look is not counted."""
    costs: dict[str, Cost] = {}

    def observe(name: str, seconds: float, problem: str) -> None:
        cost = costs.setdefault(name, Cost(name))
        cost.seconds.append(seconds)
        cost.problem = problem

    host = HostReader(disk_path, observe=observe)
    gpus = GpuReader(NvidiaReader(observe=observe), AmdReader(observe=observe))
    processes = ProcessReader()
    looks: dict[Tier, Callable[[], object]] = {
        Tier.FAST: lambda: (host.read(), gpus.read(Tier.FAST)),
        Tier.MEDIUM: lambda: (_timed("processes", processes.read, observe), gpus.processes()),
        Tier.SLOW: lambda: gpus.read(Tier.SLOW),
    }
    for look in looks.values():
        look()
    costs.clear()
    spent = _spend(looks)
    no_gpu = gpus.read(Tier.FAST)[1]
    gpus.close()
    return Bill(list(costs.values()), spent, no_gpu)


def _spend(looks: dict[Tier, Callable[[], object]]) -> dict[Tier, float]:
    spent: dict[Tier, list[float]] = defaultdict(list)
    for _ in range(LOOKS):
        for tier, look in looks.items():
            started = time.thread_time()
            look()
            spent[tier].append(time.thread_time() - started)
        time.sleep(PAUSE_SECONDS)
    return {tier: statistics.median(seconds) for tier, seconds in spent.items()}


def _timed(name: str, call: Callable[[], object], observe: Observer) -> object:
    started = time.perf_counter()
    answer = call()
    observe(name, time.perf_counter() - started, "")
    return answer


def describe_costs(bill: Bill) -> str:
    lines = [f"{'call':<44}{'median':>10}{'worst':>12}"]
    for cost in sorted(bill.calls, key=lambda one: -statistics.median(one.seconds)):
        median, worst = statistics.median(cost.seconds), max(cost.seconds)
        line = f"{cost.name:<44}{median * 1e6:>7.0f} µs{worst * 1e6:>9.0f} µs"
        lines.append(f"{line}  {cost.problem}".rstrip())
    for tier, seconds in bill.cpu_seconds.items():
        spent = f"{seconds * 1e3:.2f} ms of processor time"
        lines.append(f"every {PERIODS[tier]:>2} s: {spent} ({tier.name.lower()})")
    lines.append(f"Together {bill.share_of_a_core:.2f} % of one core.")
    if bill.no_gpu:
        lines.append(bill.no_gpu)
    return "\n".join(lines)
