"""What benchmarks tell: a figure a line, with its goal and the ratio to it; above 1 it is reached.

Where BENCH_FIGURES names a file, they are kept there too, for `python -m benchmarks.run`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

HEAD = "| what | measured | goal | ratio to the goal |\n|---|---|---|---|"


def begin() -> None:
    print(HEAD, flush=True)


def tell(
    what: str,
    measured: float,
    unit: str = "",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    more: str = "",
) -> None:
    """`more` is what a reader may want to know beside it, such as the single rounds."""
    ratio = None
    goal = "–"
    if at_least is not None:
        ratio, goal = measured / at_least, f"≥ {at_least:,g}"
    elif at_most is not None:
        ratio, goal = at_most / max(measured, 1e-9), f"≤ {at_most:,g}"
    value = f"{_short(measured)} {unit}".strip() + (f" ({more})" if more else "")
    line = f"| {what} | {value} | {goal} | {'–' if ratio is None else f'{ratio:.2f}'} |"
    print(line, flush=True)
    if path := os.environ.get("BENCH_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"what": what, "line": line, "ratio": ratio}) + "\n")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
