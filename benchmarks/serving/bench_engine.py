"""The inference engine alone: a worker asked over its socket, against onnxruntime called directly.

    python -m benchmarks.serving.bench_engine [--seconds 3]

A tiny perceptron and a small convolutional network; one and 32 requests at once, one row each, as
JSON and as raw tensors. Client and worker share the cores. Rounds are interleaved; the median of
each line is told, with its ratio to bare onnxruntime on single rows.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import orjson
from onnx import TensorProto, helper, numpy_helper

from inference.client import Connection, connect

ROUNDS = 3
AT_ONCE = (1, 32)
BATCH_ROWS = 16
SHAPES: dict[str, tuple[int, ...]] = {"perceptron": (16,), "convolutions": (3, 64, 64)}


@dataclass
class Line:
    """What was measured under one heading, a value a round."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def add(self, seconds: float, latencies: list[float], rows: int = 1) -> None:
        latencies.sort()
        self.rates.append(len(latencies) * rows / seconds)
        self.p50.append(latencies[len(latencies) // 2] * 1000)
        self.p99.append(latencies[int(len(latencies) * 0.99)] * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    seconds = parser.parse_args().seconds
    for name, make in {"perceptron": make_perceptron, "convolutions": make_convolutions}.items():
        with tempfile.TemporaryDirectory(prefix="bench-engine-") as folder:
            path = Path(folder) / "model" / "model.onnx"
            path.parent.mkdir()
            onnx.save(make(), path)
            with running(path.parent) as worker:
                tell(name, measure(path, worker, SHAPES[name], seconds))


def measure(path: Path, socket: Path, shape: tuple[int, ...], seconds: float) -> dict[str, Line]:
    session = open_session(path)
    row = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    lines: dict[str, Line] = {}
    for _ in range(ROUNDS):
        for rows in (1, BATCH_ROWS):
            line = lines.setdefault(f"bare onnxruntime, {rows} row{'s' * (rows > 1)}", Line())
            batch = np.repeat(row, rows, axis=0)
            line.add(*run_for(seconds, partial(session.run, None, {"x": batch})), rows)
        for encoding, (body, header) in requests(row).items():
            for count in AT_ONCE:
                line = lines.setdefault(f"worker, {encoding}, {count} at once", Line())
                line.add(*asyncio.run(ask_for(seconds, socket, count, body, header)))
    return lines


def requests(row: np.ndarray) -> dict[str, tuple[bytes, dict[str, Any]]]:
    tensor = {"name": "x", "datatype": "FP32", "shape": row.shape, "size_bytes": row.nbytes}
    raw = {"encoding": "tensors", "return": "tensors", "tensors": [tensor]}
    return {"JSON": (orjson.dumps({"x": row.tolist()}), {}), "tensors": (row.tobytes(), raw)}


def run_for(seconds: float, act: Callable[[], Any]) -> tuple[float, list[float]]:
    latencies, started = [], time.perf_counter()
    while (begun := time.perf_counter()) - started < seconds:
        act()
        latencies.append(time.perf_counter() - begun)
    return time.perf_counter() - started, latencies


async def ask_for(
    seconds: float, socket: Path, count: int, body: bytes, header: dict[str, Any]
) -> tuple[float, list[float]]:
    connection = await connect(socket)
    latencies: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(
        *(ask_on(connection, started + seconds, body, header, latencies) for _ in range(count))
    )
    connection.close()
    return time.perf_counter() - started, latencies


async def ask_on(
    connection: Connection,
    ends_at: float,
    body: bytes,
    header: dict[str, Any],
    latencies: list[float],
) -> None:
    while (begun := time.perf_counter()) < ends_at:
        await connection.predict(body, timeout_seconds=30, **header)
        latencies.append(time.perf_counter() - begun)


def open_session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A worker with the model in `folder`; yields its socket."""
    socket = folder.parent / "bench.sock"
    spec = {"folder": str(folder), "threads": os.cpu_count() or 1, "parent": os.getpid()}
    command = [sys.executable, "-P", "-m", "ml.serve", str(socket)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(spec).encode())
        process.stdin.close()
        started = time.perf_counter()
        for line in process.stdout:
            report = json.loads(line)
            if report["event"] == "ready":
                break
        memory = report["memory_bytes"] / 1e6
        print(f"\nready after {time.perf_counter() - started:.2f} s with {memory:.0f} MB")
        try:
            yield socket
        finally:
            process.kill()


def tell(name: str, lines: dict[str, Line]) -> None:
    bare = statistics.median(next(iter(lines.values())).rates)
    print(f"\n{name:<34}{'rows/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}")
    for heading, line in lines.items():
        rate, p50, p99 = (statistics.median(each) for each in (line.rates, line.p50, line.p99))
        print(f"{heading:<34}{rate:>10,.0f}{p50:>9.3f}{p99:>9.3f}{rate / bare:>8.2f}")


# --- Models -------------------------------------------------------------------------------


def make_perceptron() -> Any:
    weights = [weight("w0", 16, 64), weight("w1", 64, 4)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    return make_model(nodes, weights, SHAPES["perceptron"], 4)


def make_convolutions() -> Any:
    nodes, weights, at = [], [], "x"
    for place, (before, after) in enumerate(((3, 32), (32, 64), (64, 128))):
        weights.append(weight(f"w{place}", after, before, 3, 3))
        nodes += [
            helper.make_node("Conv", [at, f"w{place}"], [f"c{place}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{place}"], [f"r{place}"]),
            helper.make_node(
                "MaxPool", [f"r{place}"], [f"p{place}"], kernel_shape=[2, 2], strides=[2, 2]
            ),
        ]
        at = f"p{place}"
    weights.append(weight("w", 128, 10))
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    return make_model(nodes, weights, SHAPES["convolutions"], 10)


def weight(name: str, *shape: int) -> Any:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values / 10, name)


def make_model(nodes: list[Any], weights: list[Any], shape: tuple[int, ...], outputs: int) -> Any:
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", kind, ("rows", *shape))],
        [helper.make_tensor_value_info("y", kind, ("rows", outputs))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
