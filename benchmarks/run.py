"""Every benchmark, one after the other: a table of figures, a plot of their ratios to the goals.

    python -m benchmarks.run [--only throughput live …]

Both go to var/benchmarks/. A ratio of 1 and more: the goal is reached. Serving against other
servers is `python -m benchmarks.serving.compare`; kills at random are `python -m benchmarks.chaos`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import HEAD
from benchmarks.plot import draw

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "var" / "benchmarks"
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    names = parser.parse_args().only
    kept = OUT / "figures.jsonl"
    OUT.mkdir(parents=True, exist_ok=True)
    kept.unlink(missing_ok=True)
    failed = [name for name in names if not succeeds(name, kept)]
    figures = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    (OUT / "table.md").write_text("\n".join([HEAD, *(each["line"] for each in figures)]) + "\n")
    (OUT / "plot.svg").write_text(plot(figures))
    print(f"\n{(OUT / 'table.md').read_text()}\nwritten to {OUT}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def succeeds(name: str, kept: Path) -> bool:
    print(f"\n# {name}\n", flush=True)
    command = [sys.executable, "-m", f"benchmarks.bench_{name}"]
    env = {**os.environ, "BENCH_FIGURES": str(kept)}
    return not subprocess.run(command, cwd=HERE.parent, env=env).returncode


def plot(figures: list[dict[str, Any]]) -> str:
    """Of those that have a goal; ten times the goal is as long as a bar gets."""
    ratios = {each["what"]: min(each["ratio"], 10) for each in figures if each["ratio"] is not None}
    title = "ratio to the goal: from 1 on it is reached"
    return draw({title: ratios}, lambda ratio: f"{ratio:.2f}{'+' * (ratio >= 10)}", label=420)


if __name__ == "__main__":
    sys.exit(main())
