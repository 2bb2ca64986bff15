"""How quickly models are served: this server, with keys, limits, the log of attempts and metrics
on, against bare onnxruntime, hand-written FastAPI and four products.

    python -m benchmarks.serving.compare [--seconds 10] [--rounds 3] [--only NAME …]

All are given the same models and asked by the same client (wrk) on the same machine, one after the
other, round after round; the median of the rounds is told. Every server must first answer what
the model itself does. Table, figures and a plot go to var/benchmarks/serving/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime

from benchmarks.serving.models import MODELS, write_models
from benchmarks.serving.plot import draw
from benchmarks.serving.servers import PRODUCTS, SERVERS, Asking, NotThere, Server, Target

OUT = Path(__file__).resolve().parents[2] / "var" / "benchmarks" / "serving"
WARM_UP_SECONDS = 1.0
BARE_ROWS = (1, 16, 32)
SCENES = [("mlp", "json", 32), ("mlp", "json", 1), ("resnet", "json", 32), ("resnet", "binary", 32)]
"""Model, encoding, connections."""
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
{headers}
"""

Scene = tuple[str, str, int]


@dataclass
class Figures:
    """Of one server in one scene; a value a round."""

    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    errors: int = 0


@dataclass
class Report:
    scenes: dict[Scene, dict[str, Figures]] = field(
        default_factory=lambda: {scene: {} for scene in SCENES}
    )
    memory_mb: dict[str, float] = field(default_factory=dict)
    start_seconds: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    bare: dict[str, list[float]] = field(default_factory=dict)
    """Model → rows a second of onnxruntime alone, at its best batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of servers; all, if none are named")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is missing; 'apt-get install wrk' brings it.")
    OUT.mkdir(parents=True, exist_ok=True)
    write_models(OUT / "models")
    report = Report()
    chosen = [server for server in SERVERS if not options.only or server.name in options.only]
    for number in range(options.rounds):
        for model in MODELS:
            print(f"round {number + 1}, {model}: bare onnxruntime", flush=True)
            report.bare.setdefault(model, []).append(measure_bare(model, options.seconds))
            for server in chosen:
                measure_server(server, model, options.seconds, report)
    write(report)


def measure_bare(model: str, seconds: float) -> float:
    path = OUT / "models" / model / "model.onnx"
    shape = json.dumps(MODELS[model])
    command = [sys.executable, str(PRODUCTS / "bare.py"), str(path), shape]
    rates = [
        float(subprocess.check_output([*command, str(rows), str(seconds / len(BARE_ROWS))]))
        for rows in BARE_ROWS
    ]
    return max(rates)


def measure_server(server: Server, model: str, seconds: float, report: Report) -> None:
    if server.name in report.missing:
        return
    print(f"  {server.name}", flush=True)
    path = OUT / "models" / model / "model.onnx"
    try:
        with server.run(OUT, path) as target:
            report.start_seconds[server.name] = target.start_seconds
            check(server, target, model)
            target.settle()
            for scene in SCENES:
                if scene[0] == model and (asking := asking_of(server, scene)):
                    found = report.scenes[scene].setdefault(server.name, Figures())
                    measure(target, asking, scene[2], seconds, found)
            report.memory_mb[server.name] = target.memory_mb()
    except NotThere as error:
        report.missing[server.name] = str(error)
        print(f"    {error}", flush=True)


def check(server: Server, target: Target, model: str) -> None:
    """Raises NotThere where it does not answer what the model itself does."""
    path, body, headers = server.ask_json(model, row_of(model))
    sent = {"Content-Type": "application/json", **target.headers, **headers}
    answer = httpx.post(target.url + path, content=body, headers=sent, timeout=60)
    if answer.status_code != 200:
        raise NotThere(f"answers {answer.status_code}: {answer.text[:200]}")
    session = onnxruntime.InferenceSession(OUT / "models" / model / "model.onnx")
    [expected] = session.run(None, {"x": row_of(model)})
    found = server.read_json(answer.json())
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise NotThere("answers something else than the model")


def row_of(model: str) -> Any:
    row = np.random.default_rng(0).standard_normal((1, *MODELS[model])).astype(np.float32)
    return np.round(row, 4)


def asking_of(server: Server, scene: Scene) -> Asking | None:
    model, encoding, _ = scene
    ask = server.ask_json if encoding == "json" else server.ask_binary
    return None if ask is None else ask(model, row_of(model))


def measure(
    target: Target, asking: Asking, connections: int, seconds: float, found: Figures
) -> None:
    path, body, headers = asking
    everything = {"Content-Type": "application/json", **target.headers, **headers}
    (OUT / "body").write_bytes(body)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in everything.items()]
    script = SCRIPT.format(body=OUT / "body", headers="\n".join(lines))
    (OUT / "ask.lua").write_text(script)
    command = ["wrk", "-t1", f"-c{connections}", "--latency", "--timeout", "30s"]
    command += ["-s", str(OUT / "ask.lua"), target.url + path]
    subprocess.run([*command, f"-d{WARM_UP_SECONDS:g}s"], check=True, capture_output=True)
    done = subprocess.run([*command, f"-d{seconds:g}s"], check=True, capture_output=True, text=True)
    read_wrk(done.stdout, found)


def read_wrk(text: str, found: Figures) -> None:
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    assert rate is not None, text
    found.rates.append(float(rate[1]))
    found.p50_ms.append(_latency(text, 50))
    found.p99_ms.append(_latency(text, 99))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    found.errors += int(refused[1]) if refused else 0


def _latency(text: str, share: int) -> float:
    found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\b", text)
    assert found is not None, text
    return float(found[1]) * UNITS[found[2]]


# --- Telling --------------------------------------------------------------------------------


def write(report: Report) -> None:
    lines = [f"{os.cpu_count()} cores, wrk on the same ones. Requests/s (p50 / p99 in ms)."]
    header = ["", *(f"{model} {kind}, {count}" for model, kind, count in SCENES), "MB", "start s"]
    lines += ["", _line(header), _line(["---"] * len(header))]
    names = [server.name for server in SERVERS]
    for name in names:
        if name in report.memory_mb:
            cells = [_cell(report.scenes[scene].get(name)) for scene in SCENES]
            memory, start = report.memory_mb[name], report.start_seconds[name]
            lines.append(_line([name, *cells, f"{memory:.0f}", f"{start:.1f}"]))
    bare = {model: statistics.median(rates) for model, rates in report.bare.items()}
    cells = [f"{bare[model]:,.0f}" if count > 1 else "" for model, _, count in SCENES]
    lines.append(_line(["bare onnxruntime, best batch", *cells, "", ""]))
    lines += [f"\n{name}: {why}" for name, why in report.missing.items()]
    text = "\n".join(lines) + "\n"
    (OUT / "table.md").write_text(text)
    rates = {
        f"{model}, {kind}, {count} connections": {
            name: statistics.median(figures.rates)
            for name, figures in report.scenes[model, kind, count].items()
        }
        for model, kind, count in SCENES
    }
    (OUT / "plot.svg").write_text(draw(rates))
    print(f"\n{text}\nwritten to {OUT}")


def _cell(figures: Figures | None) -> str:
    if figures is None:
        return ""
    rate, p50, p99 = map(statistics.median, (figures.rates, figures.p50_ms, figures.p99_ms))
    refused = f", {figures.errors} refused" if figures.errors else ""
    return f"{rate:,.0f} ({p50:.1f} / {p99:.1f}{refused})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
