"""Thousands of connections that ask nothing, or only half, against a whole running server.

    python -m benchmarks.bench_connections --connections 10000

A third stay silent, a third send half a head, a third half a body. Meanwhile /health and a
prediction are asked for by new connections. Goal: each answer is the right one, or 503 or 429 with
Retry-After, and afterwards the web process has the files and the memory that it had before.
"""

from __future__ import annotations

import argparse
import resource
import socket
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.figures import begin, tell
from tests.models_registry.brought import onnx_bytes
from tests.servers import Stack, serving

ASK_EVERY = 100
PREDICT = {"model_name": "relu", "inputs": {"x": [[1, -2, 3]]}}
HEAD = "{} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {}\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as stack:
        load(stack)
        (web,) = stack.processes("uvicorn")
        ask(stack, Counter(), [])
        before = facts(web)
        answers, seconds = crowd(stack, options.connections)
        wait_until_less(web, before[0])
        ask(stack, answers, seconds)
        report(options.connections, answers, seconds, before, facts(web))


def report(
    count: int,
    answers: Counter[str],
    seconds: list[float],
    before: tuple[int, float],
    after: tuple[int, float],
) -> None:
    begin()
    good = sum(answers[each] for each in answers if " 200" in each or "Retry-After" in each)
    told = ", ".join(f"{each}: {times}" for each, times in sorted(answers.items()))
    tell(
        f"right answers beside {count:,} idle connections",
        good,
        at_least=answers.total(),
        more=told,
    )
    told = f"slowest {1000 * max(seconds):.0f}"
    tell("an answer meanwhile", 1000 * median(seconds), "ms", more=told)
    told = f"{before[0]} → {after[0]} files"
    tell("memory kept afterwards", after[1] - before[1], "MB", more=told)


def load(stack: Stack) -> None:
    with stack.client() as client:
        files = {"file": ("relu.onnx", onnx_bytes())}
        client.post("/api/v1/models/", data={"name": "relu"}, files=files).raise_for_status()
        client.post("/api/v1/models/load", json={"model_name": "relu"}).raise_for_status()


def crowd(stack: Stack, count: int) -> tuple[Counter[str], list[float]]:
    """What was answered meanwhile, and in how many seconds."""
    answers: Counter[str] = Counter()
    seconds: list[float] = []
    port = int(stack.url.rpartition(":")[2])
    half_head = HEAD.format("GET /health", stack.key) + "X-Half"
    half_body = HEAD.format("POST /api/v1/predict", stack.key) + "Content-Length: 99\r\n\r\n{"
    parts = [part.encode() for part in ("", half_head, half_body)]
    with ExitStack() as open_ones:
        for number in range(count):
            made = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            made.sendall(parts[number % len(parts)])
            if number % ASK_EVERY == 0:
                ask(stack, answers, seconds)
    return answers, seconds


def ask(stack: Stack, answers: Counter[str], seconds: list[float]) -> None:
    with stack.client() as client:
        for method, path, body in (("GET", "/health", None), ("POST", "/api/v1/predict", PREDICT)):
            started = time.perf_counter()
            answer = client.request(method, path, json=body)
            seconds.append(time.perf_counter() - started)
            told = " with Retry-After" * ("retry-after" in answer.headers)
            answers[f"{path} {answer.status_code}{told}"] += 1


def facts(process: psutil.Process) -> tuple[int, float]:
    return process.num_fds(), process.memory_info().rss / 10**6


def wait_until_less(process: psutil.Process, files: int) -> None:
    ends_at = time.monotonic() + 60
    while process.num_fds() > files + 5 and time.monotonic() < ends_at:
        time.sleep(0.1)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
