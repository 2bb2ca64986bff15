"""The servers that are compared: how each is installed, started, asked, and how it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.serving.text_models import CLASSIFIER, MIXED, WRITER
from tests.servers import free_port, run_django, serving

PRODUCTS = Path(__file__).resolve().parent / "products"
START_SECONDS = 120
SETTLE_SECONDS = 20
QUIET_SHARE = 0.2  # of a core
ENGINE = ("onnxruntime", "numpy")
OURS = "this server"
TASKS = {CLASSIFIER: "classify", WRITER: "causal", MIXED: "causal"}
Asking = tuple[str, bytes, dict[str, str]]
"""Path, body, headers."""


class NotThere(Exception):
    """It could not be installed or started; the sentence says why."""


@dataclass(frozen=True)
class Target:
    """A server that runs."""

    url: str
    headers: dict[str, str]
    pid: int
    start_seconds: float

    def memory_mb(self) -> float:
        """PSS of all its processes."""
        root = psutil.Process(self.pid)
        total = 0
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 1e6

    def settle(self) -> None:
        """Until its processes have done what they do at their start."""
        root = psutil.Process(self.pid)
        ends_at = time.monotonic() + SETTLE_SECONDS
        busy = QUIET_SHARE
        while busy >= QUIET_SHARE and time.monotonic() < ends_at:
            before = _cpu_seconds(root)
            time.sleep(1)
            busy = _cpu_seconds(root) - before


def _cpu_seconds(root: psutil.Process) -> float:
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += float(used.user + used.system)
    return total


@dataclass(frozen=True)
class Server:
    name: str
    run: Callable[[Path, Path], Any]
    """(folder of the benchmark, model) → context of a Target."""
    ask_json: Callable[[str, Any], Asking]
    read_json: Callable[[Any], Any]
    ask_otherwise: Callable[[str, Any], Asking] | None = None
    """Binary tensors; of texts, the stream of one that is written."""


# --- Products, each in an environment of its own --------------------------------------------


@cache
def install(folder: Path, name: str, packages: tuple[str, ...]) -> Path:
    """Its Python; raises NotThere."""
    python = folder / f"venv-{name}" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *packages, *ENGINE], capture_output=True, text=True)
    if done.returncode:
        raise NotThere(f"not installed: {(done.stderr.strip() or '?').splitlines()[-1][:200]}")
    return python


def product(
    name: str, packages: tuple[str, ...], *command: str, path: str = "/"
) -> Callable[[Path, Path], Any]:
    """Runs `python command…`, or a script of its environment; it is there when it knows `path`."""

    @contextmanager
    def run(folder: Path, model: Path) -> Iterator[Target]:
        python = install(folder, name, packages)
        port = free_port()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as place:
            env = {
                "PATH": f"{python.parent}:/usr/bin:/bin",
                "HOME": place,
                "PYTHONPATH": str(PRODUCTS),
                "BENCH_MODEL": str(model),
                "BENCH_PORT": str(port),
                "BENCH_LIBRARIES": sysconfig.get_path("purelib"),
                "BENTOML_DO_NOT_TRACK": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
            }
            parts = [part.format(port=port, products=PRODUCTS) for part in command]
            started = time.monotonic()
            with (Path(place) / "log").open("wb") as log:
                process = subprocess.Popen(
                    [python.parent / parts[0], *parts[1:]], cwd=place, env=env,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            try:
                url = f"http://127.0.0.1:{port}"
                _wait_until_listening(process, url + path, Path(place) / "log")
                yield Target(url, {}, process.pid, time.monotonic() - started)
            finally:
                _end(process)

    return run


def _wait_until_listening(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code != 404 or url.endswith("/"):
                return
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise NotThere(f"did not start: {last}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all its children, also those that left its group."""
    tree: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        tree = [root, *root.children(recursive=True)]
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(tree, timeout=10)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


# --- This server ----------------------------------------------------------------------------

REGISTER = """
import pathlib
from django.contrib.auth.models import User
from models_registry.services import register_version
register_version(
    name={name!r}, folder=pathlib.Path({folder!r}), framework={framework!r}, task={task!r},
    owner=User.objects.get(username="admin"), metrics={{}}, lineage={{}},
)
"""


@contextmanager
def this_server(folder: Path, model: Path) -> Iterator[Target]:
    """`manage.py serve` with everything: keys, limits, the log of attempts, metrics."""
    limits = {"RATE_LIMIT_ENABLED": "1", "RATE_LIMIT_REQUESTS": "100000000"}
    with (
        tempfile.TemporaryDirectory(prefix="bench-mlserver-") as place,
        serving(Path(place), **limits) as stack,
    ):
        source = model if model.is_dir() else model.parent
        framework, task = ("transformers", TASKS[source.name]) if model.is_dir() else ("onnx", "")
        name = source.name
        run_django(
            REGISTER.format(name=name, folder=str(source), framework=framework, task=task),
            stack.env,
        )
        started = time.monotonic()
        with stack.client() as client:
            wish = {"model_name": name, "wait_seconds": 60}
            client.post("/api/v1/models/load", json=wish, timeout=90).raise_for_status()
        headers = {"Authorization": f"Bearer {stack.key}"}
        yield Target(stack.url, headers, stack.process.pid, time.monotonic() - started)


# --- How each is asked ------------------------------------------------------------------------


def _written(row: Any) -> Any:
    """As people write numbers: 0.1257, not 0.12569999694824219."""
    return np.round(row.astype(float), 4).tolist()


def _plain(model: str, row: Any) -> Asking:
    return "/predict", json.dumps({"inputs": {"x": _written(row)}}).encode(), {}


def _ours(model: str, row: Any) -> Asking:
    asked = {"model_name": model, "inputs": {"x": _written(row)}}
    return "/api/v1/predict", json.dumps(asked).encode(), {}


def _protocol(model: str, row: Any) -> Asking:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(row.shape)}
    asked = {"inputs": [{**tensor, "data": _written(row.ravel())}]}
    return "/v2/models/bench/infer", json.dumps(asked).encode(), {}


def _protocol_binary(model: str, row: Any) -> Asking:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(row.shape)}
    described = {**tensor, "parameters": {"binary_data_size": row.nbytes}}
    asked = {"inputs": [described], "parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return f"/v2/models/{model}/infer", head + row.tobytes(), headers


def _bytes(model: str, row: Any) -> Asking:
    return "/binary", row.tobytes(), {"Content-Type": "application/octet-stream"}


def _bento(model: str, row: Any) -> Asking:
    return "/predict", json.dumps({"x": _written(row)}).encode(), {}


def _named(answer: Any) -> Any:
    return np.asarray(answer["outputs"]["y"])


def _tensor(answer: Any) -> Any:
    output = answer["outputs"][0]
    return np.asarray(output["data"]).reshape(output["shape"])


SERVERS = [
    Server(OURS, this_server, _ours, _named, _protocol_binary),
    Server(
        "hand-written FastAPI",
        product("fastapi", ("fastapi", "uvicorn[standard]", "orjson"),
                "python", "{products}/with_fastapi.py"),
        _plain, _named, _bytes,
    ),
    Server(
        "LitServe",
        product("litserve", ("litserve",), "python", "{products}/with_litserve.py"),
        _plain, _named,
    ),
    Server(
        "BentoML",
        product("bentoml", ("bentoml",), "bentoml", "serve", "with_bentoml:Bench",
                "--working-dir", "{products}", "--port", "{port}"),
        _bento, np.asarray,
    ),
    Server(
        "MLServer (Seldon)",
        product("mlserver", ("mlserver",), "python", "{products}/with_mlserver.py"),
        _protocol, _tensor,
    ),
    Server(
        "Ray Serve",
        product("ray", ("ray[serve]",), "python", "{products}/with_ray.py",
                path="/predict"),
        _plain, _named,
    ),
]  # fmt: skip
