"""How quickly models are served: this server, with keys, limits, the log of attempts and metrics
on, against the bare library, hand-written FastAPI and other products.

    python -m benchmarks.serving.compare [--seconds 10] [--rounds 3] [--only NAME …] [--models …]

All are given the same models and asked by the same client (wrk) on the same machine, one after the
other, round after round; the median of the rounds is told. Every server must first answer what
the model itself does. Table, figures and a plot go to var/benchmarks/serving/. Tensors are asked of
onnxruntime (mlp, resnet), texts of transformers (classifier, writer, writer-mixed).
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
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime

from benchmarks.plot import draw
from benchmarks.serving.models import MODELS, write_models
from benchmarks.serving.servers import OURS, PRODUCTS, SERVERS, Asking, NotThere, Server, Target
from benchmarks.serving.text_models import (
    CLASSIFIER,
    MIXED,
    NEW_TOKENS,
    TEXTS,
    WRITER,
    read_answers,
    write_text_models,
)
from benchmarks.serving.text_servers import TEXT_SERVERS

OUT = Path(__file__).resolve().parents[2] / "var" / "benchmarks" / "serving"
WARM_UP_SECONDS = 1.0
BARE_ROWS = {
    "mlp": (1, 16, 32),
    "resnet": (1, 16, 32),
    CLASSIFIER: (1, 16),
    WRITER: (8,),
    MIXED: (8,),
}
FIRST_TOKENS = 10
"""So many streams, one after the other, tell the time to a first token."""
SCENES = [
    ("mlp", "json", 32),
    ("mlp", "json", 1),
    ("resnet", "json", 32),
    ("resnet", "binary", 32),
    (CLASSIFIER, "json", 16),
    (WRITER, "json", 8),
    (WRITER, "stream", 8),
    (MIXED, "json", 8),
]
"""Model, encoding, connections."""
TABLES = (tuple(MODELS), TEXTS)
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
SCRIPT = """
wrk.method = "POST"
{headers}
local bodies = {{}}
for number = 1, {count} do
  local file = io.open("{body}" .. number, "rb")
  bodies[number] = file:read("*a")
  file:close()
end
wrk.body = bodies[1]
local asked = 0
if {count} > 1 then
  request = function()
    asked = asked % {count} + 1
    return wrk.format(nil, nil, nil, bodies[asked])
  end
end
"""

Scene = tuple[str, str, int]


@dataclass
class Figures:
    """Of one server in one scene; a value a round."""

    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    """Of a stream, asked alone: until its first token."""
    errors: int = 0


Of = tuple[str, str]
"""A server and a model."""


@dataclass
class Report:
    scenes: dict[Scene, dict[str, Figures]] = field(
        default_factory=lambda: {scene: {} for scene in SCENES}
    )
    memory_mb: dict[Of, float] = field(default_factory=dict)
    start_seconds: dict[Of, float] = field(default_factory=dict)
    missing: dict[Of, str] = field(default_factory=dict)
    bare: dict[str, Figures] = field(default_factory=dict)
    """Model → the library alone, at its best batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of servers; all, if none are named")
    parser.add_argument(
        "--models", nargs="*", default=sum(TABLES, ()), help="all, if none is named"
    )
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is missing; 'apt-get install wrk' brings it.")
    OUT.mkdir(parents=True, exist_ok=True)
    write_models(OUT / "models")
    write_text_models(OUT / "models")
    report = Report()
    for number in range(options.rounds):
        for model in options.models:
            print(f"round {number + 1}, {model}: the bare library", flush=True)
            measure_bare(model, options.seconds, report.bare.setdefault(model, Figures()))
            for server in servers_of(model):
                if not options.only or server.name in options.only:
                    measure_server(server, model, options.seconds, report)
    write(report)


def servers_of(model: str) -> list[Server]:
    return TEXT_SERVERS.get(model, SERVERS)


def path_of(model: str) -> Path:
    folder = OUT / "models" / model
    return folder if model in TEXTS else folder / "model.onnx"


def measure_bare(model: str, seconds: float, found: Figures) -> None:
    best, each = 0.0, seconds / len(BARE_ROWS[model])
    for rows in BARE_ROWS[model]:
        if model in TEXTS:
            env = {**os.environ, "BENCH_MODEL": str(path_of(model))}
            env["BENCH_LIBRARIES"] = sysconfig.get_path("purelib")
            command = [sys.executable, str(PRODUCTS / "texts_bare.py"), str(rows), str(each)]
            told = json.loads(subprocess.check_output(command, env=env))
            best = max(best, told["rate"])
            if rows == BARE_ROWS[model][0]:
                found.first_ms.append(told["first_ms"])
        else:
            shape = json.dumps(MODELS[model])
            command = [sys.executable, str(PRODUCTS / "bare.py"), str(path_of(model)), shape]
            best = max(best, float(subprocess.check_output([*command, str(rows), str(each)])))
    found.rates.append(best)


def measure_server(server: Server, model: str, seconds: float, report: Report) -> None:
    which = (server.name, model)
    if which in report.missing:
        return
    print(f"  {server.name}", flush=True)
    try:
        with server.run(OUT, path_of(model)) as target:
            report.start_seconds[which] = target.start_seconds
            check(server, target, model)
            target.settle()
            for scene in SCENES:
                if scene[0] == model and (asked := asking_of(server, scene)):
                    found = report.scenes[scene].setdefault(server.name, Figures())
                    measure(target, asked, scene[2], seconds, found)
                    if scene[1] == "stream":
                        found.first_ms.append(measure_first(target, asked[0]))
            report.memory_mb[which] = target.memory_mb()
    except NotThere as error:
        report.missing[which] = str(error)
        print(f"    {error}", flush=True)


def check(server: Server, target: Target, model: str) -> None:
    """Raises NotThere where it does not answer what the model itself does."""
    asked, expected = next(iter(questions(model)))
    path, body, headers = server.ask_json(model, asked)
    sent = {"Content-Type": "application/json", **target.headers, **headers}
    answer = httpx.post(target.url + path, content=body, headers=sent, timeout=60)
    if answer.status_code != 200:
        raise NotThere(f"answers {answer.status_code}: {answer.text[:200]}")
    found = server.read_json(answer.json())
    is_same = (
        found == expected
        if model in NEW_TOKENS
        else np.allclose(found, expected, rtol=1e-3, atol=1e-4)
    )
    if not is_same:
        raise NotThere(f"answers something else than the model: {str(found)[:100]}")


def questions(model: str) -> Iterator[tuple[Any, Any]]:
    """What is asked, and what the model itself answers."""
    if model in TEXTS:
        yield from read_answers(OUT / "models", model).items()
        return
    session = onnxruntime.InferenceSession(path_of(model))
    [expected] = session.run(None, {"x": row_of(model)})
    yield row_of(model), expected


def row_of(model: str) -> Any:
    row = np.random.default_rng(0).standard_normal((1, *MODELS[model])).astype(np.float32)
    return np.round(row, 4)


def asking_of(server: Server, scene: Scene) -> list[Asking]:
    model, encoding, _ = scene
    ask = server.ask_json if encoding == "json" else server.ask_otherwise
    return [] if ask is None else [ask(model, asked) for asked, _ in questions(model)]


def measure(
    target: Target, asked: list[Asking], connections: int, seconds: float, found: Figures
) -> None:
    path, _, headers = asked[0]
    everything = {"Content-Type": "application/json", **target.headers, **headers}
    for number, (_, body, _) in enumerate(asked, 1):
        (OUT / f"body{number}").write_bytes(body)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in everything.items()]
    script = SCRIPT.format(body=OUT / "body", count=len(asked), headers="\n".join(lines))
    (OUT / "ask.lua").write_text(script)
    command = ["wrk", "-t1", f"-c{connections}", "--latency", "--timeout", "60s"]
    command += ["-s", str(OUT / "ask.lua"), target.url + path]
    subprocess.run([*command, f"-d{WARM_UP_SECONDS:g}s"], check=True, capture_output=True)
    done = subprocess.run([*command, f"-d{seconds:g}s"], check=True, capture_output=True, text=True)
    read_wrk(done.stdout, found)


def measure_first(target: Target, asking: Asking) -> float:
    """Milliseconds until the first token of a stream that is asked alone; the median of some."""
    path, body, headers = asking
    sent = {"Content-Type": "application/json", **target.headers, **headers}
    taken = []
    with httpx.Client(headers=sent, timeout=60) as client:
        for _ in range(FIRST_TOKENS):
            started = time.perf_counter()
            with client.stream("POST", target.url + path, content=body) as answer:
                for part in answer.iter_raw():
                    if b"data:" in part:
                        taken.append((time.perf_counter() - started) * 1000)
                        break
    return statistics.median(taken)


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
    lines = [
        f"{os.cpu_count()} cores, wrk on the same ones. Requests/s × how many times as many {OURS}"
        " answers (p50 / p99 in ms)."
    ]
    for models in TABLES:
        lines += write_table(report, models)
    lines += [f"\n{name}, {model}: {why}" for (name, model), why in report.missing.items()]
    text = "\n".join(lines) + "\n"
    (OUT / "table.md").write_text(text)
    rates = {
        f"{model}, {kind}, {count} connections": {
            name: statistics.median(figures.rates)
            for name, figures in report.scenes[model, kind, count].items()
        }
        for model, kind, count in SCENES
        if report.scenes[model, kind, count]
    }
    (OUT / "plot.svg").write_text(draw(rates, lambda rate: f"{rate:,.0f}/s"))
    print(f"\n{text}\nwritten to {OUT}")


def write_table(report: Report, models: tuple[str, ...]) -> Iterator[str]:
    scenes = [scene for scene in SCENES if scene[0] in models and scene[0] in report.bare]
    asked = list(dict.fromkeys(model for model, _, _ in scenes))
    if not scenes:
        return
    header = ["", *(f"{model} {kind}, {count}" for model, kind, count in scenes)]
    header += [f"{model}: MB, start s" for model in asked]
    yield from ("", _line(header), _line(["---"] * len(header)))
    for server in servers_of(asked[-1]):
        if any((server.name, model) in report.memory_mb for model in asked):
            cells = [_cell(report.scenes[scene], server.name) for scene in scenes]
            sizes = [_size(report, (server.name, model)) for model in asked]
            yield _line([server.name, *cells, *sizes])
    bare = "the bare library, best batch"
    cells = [
        _cell(report.scenes[scene] | {bare: report.bare[scene[0]]}, bare) if scene[2] > 1 else ""
        for scene in scenes
    ]
    yield _line([bare, *cells, *[""] * len(asked)])


def _size(report: Report, which: Of) -> str:
    if which not in report.memory_mb:
        return ""
    return f"{report.memory_mb[which]:.0f}, {report.start_seconds[which]:.1f}"


def _cell(scene: dict[str, Figures], name: str) -> str:
    figures, ours = scene.get(name), scene.get(OURS)
    if figures is None or not figures.rates:
        return ""
    rate = statistics.median(figures.rates)
    ratio = ""
    if ours is not None and ours is not figures and rate:
        ratio = f" ×{statistics.median(ours.rates) / rate:.2f}"
    told = []
    if figures.p50_ms:
        told.append(
            " / ".join(
                f"{statistics.median(each):.1f}" for each in (figures.p50_ms, figures.p99_ms)
            )
        )
    if figures.first_ms:
        told.append(f"first {statistics.median(figures.first_ms):.0f}")
    if figures.errors:
        told.append(f"{figures.errors} refused")
    shown = f"{rate:,.{1 if rate < 100 else 0}f}{ratio}"
    return f"{shown} ({', '.join(told)})" if told else shown


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
