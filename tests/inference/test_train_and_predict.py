"""On a real server: train, load, predict; the answers are those of the model run directly."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.servers import Stack, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

DIRECT = """
import json, sys
import model
print(json.dumps(model.predict(".", json.load(sys.stdin))))
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(tmp_path_factory.mktemp("stack")) as running:
        yield running


def post(client: httpx.Client, path: str, body: Any) -> Any:
    answer = client.post(f"/api/v1{path}", json=body, timeout=90)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def predict_directly(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", DIRECT], cwd=folder, input=json.dumps(rows),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_train_load_predict_and_survive_a_kill(
    stack: Stack, record_property: Callable[[str, object], None]
) -> None:
    with stack.client() as client:
        wish = {"dataset": "iris", "name": "flowers", "epochs": 3}
        session = post(client, "/sessions/", wish)["id"]
        assert stack.wait_for(session, "completed", "failed")["state"] == "completed"
        loaded = post(client, "/models/load", {"model_name": "flowers", "wait_seconds": 60})
        assert loaded["state"] == "ready", loaded

        names = [each["name"] for each in loaded["signature"]["inputs"]]
        rows = [{name: 0.5 * n + place for place, name in enumerate(names)} for n in range(8)]
        asked = {"model_name": "flowers", "inputs": rows}
        outputs = post(client, "/predict", asked)["outputs"]
        direct = predict_directly(stack.var_dir / "models" / "flowers" / "v1", rows)
        assert outputs["label"] == [answer["label"] for answer in direct]
        differences = [
            abs(served - own)
            for line, answer in zip(outputs["probabilities"], direct, strict=True)
            for served, own in zip(line, answer["probabilities"].values(), strict=True)
        ]
        record_property("largest_difference", max(differences))
        assert max(differences) < 1e-6

        worker = psutil.Process(loaded["pid"])
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: is_answered(client, asked))
        assert not worker.is_running()


def is_answered(client: httpx.Client, asked: dict[str, Any]) -> bool:
    """Meanwhile 503 is the only other answer."""
    answer = client.post("/api/v1/predict", json=asked)
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200
