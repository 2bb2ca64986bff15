"""The curl lines of document 000 (Remote ML API) as written: only address and key are ours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSeq2SeqLM

from tests.ml.train.language import make_base
from tests.servers import Stack
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docs"), pytest.mark.timeout(900)]

HEALTH = "curl http://your-instance:8000/health"
START = """\
curl -X POST http://your-instance:8000/api/v1/training/start \\
  -H "Content-Type: application/json" \\
  -d '{
    "dataset_path": "data/dataset.json",
    "model_name": "Salesforce/codet5-small",
    "num_epochs": 20,
    "batch_size": 16
  }'"""
STATUS = "curl http://your-instance:8000/api/v1/training/status/train_20250106_103000"
RECORDS = [{"x": n, "y": n % 7, "label": "ab"[n % 2]} for n in range(60)]


def run(line: str, stack: Stack, folder: Path) -> Any:
    """The line in a shell; the key comes from curl's own configuration."""
    (folder / ".curlrc").write_text(f'silent\nheader = "Authorization: Bearer {stack.key}"\n')
    done = subprocess.run(
        ["bash", "-c", line.replace("http://your-instance:8000", stack.url)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return json.loads(done.stdout)


def test_health_has_the_documents_fields(stack: Stack, tmp_path: Path) -> None:
    def look() -> Any:
        body = run(HEALTH, stack, tmp_path)
        return body if body["status"] in ("healthy", "degraded") else None

    body = wait_until(look)  # for the first reading, and the manager of models
    fields = {"gpu_available", "gpu_name", "cuda_version", "memory_allocated_gb", "timestamp"}
    assert fields <= set(body)


def test_a_model_that_is_not_here_is_refused_with_the_way_to_bring_it(
    stack: Stack, tmp_path: Path
) -> None:
    body = run(START.replace("codet5-small", "codet5-tiny"), stack, tmp_path)
    assert (body["status"], body["code"]) == (422, "base_model_not_found")
    assert body["errors"][0]["field"] == "model_name"
    assert "Register its Hugging Face folder" in body["detail"]


def test_the_documents_model_is_trained_where_it_is_registered(
    stack: Stack, tmp_path: Path
) -> None:
    """The line as written, but for a learning rate that suits random weights. The model has the
    document's name and CodeT5's architecture, in small: no test asks the hub."""
    folder = make_base(tmp_path / "codet5", "text2text")
    archive = shutil.make_archive(str(tmp_path / "codet5"), "zip", folder)
    rows = [{"input": f"add {n % 5} {n % 3}", "output": f"is {n % 5 + n % 3}"} for n in range(40)]
    (stack.var_dir / "datasets" / "pairs.json").write_text(json.dumps(rows))
    with stack.client() as client, Path(archive).open("rb") as file:
        brought = client.post(
            "/api/v1/models/", data={"name": "Salesforce/codet5-small"}, files={"file": file}
        )
    assert brought.status_code == 201, brought.text
    line = START.replace("dataset.json", "pairs.json")
    line = line.replace('"batch_size": 16', '"batch_size": 16, "learning_rate": 0.01')
    begun = run(line, stack, tmp_path)
    assert begun["status"] == "pending", begun
    session = stack.wait_for(begun["job_id"], "completed", "failed")
    assert (session["state"], session["error"]) == ("completed", "")
    assert (session["recipe"], session["current_epoch"]) == ("text2text", 20)
    assert session["config"]["base_model"] == "Salesforce--codet5-small@1"
    assert session["summary"]["samples"]["samples"]
    with stack.client() as client:
        entries = client.get(f"/api/v1/sessions/{begun['job_id']}/metrics").json()["results"]
        name = session["produced"].partition("@")[0]
        made = client.get(f"/api/v1/models/{name}/download")
    assert entries[-1]["loss"] < entries[0]["loss"]
    (tmp_path / "made.zip").write_bytes(made.content)
    shutil.unpack_archive(tmp_path / "made.zip", tmp_path / "made")
    [found] = (tmp_path / "made").iterdir()
    assert AutoModelForSeq2SeqLM.from_pretrained(found)


def test_an_unknown_job_is_said_to_be_unknown(stack: Stack, tmp_path: Path) -> None:
    body = run(STATUS, stack, tmp_path)
    assert body["status"] == 404
    assert "train_20250106_103000" in body["detail"]


def test_a_file_in_the_datasets_directory_is_trained_to_the_end(
    stack: Stack, tmp_path: Path
) -> None:
    (stack.var_dir / "datasets" / "dataset.json").write_text(json.dumps(RECORDS))
    begun = run(START.replace("Salesforce/codet5-small", "network"), stack, tmp_path)
    assert set(begun) == {"job_id", "status", "message", "started_at"}
    assert (begun["status"], begun["message"]) == ("pending", "Training job started")
    ask = STATUS.replace("train_20250106_103000", begun["job_id"])
    stack.wait_for(begun["job_id"], "completed", "failed")
    told = run(ask, stack, tmp_path)
    assert (told["status"], told["progress"], told["error"]) == ("completed", 100, None)
    assert (told["current_epoch"], told["total_epochs"]) == (20, 20)
    assert told["loss"] > 0
    assert told["started_at"] == begun["started_at"] < told["completed_at"]
    jobs = run("curl http://your-instance:8000/api/v1/training/jobs", stack, tmp_path)
    assert begun["job_id"] in [job["job_id"] for job in jobs["jobs"]]
    with stack.client() as client:
        entries = client.get(f"/api/v1/sessions/{begun['job_id']}/metrics").json()["results"]
    assert [entry["epoch"] for entry in entries] == list(range(1, 21))


def test_the_log_can_be_searched_as_in_the_document_and_holds_no_key(
    stack: Stack, tmp_path: Path
) -> None:
    run("curl http://your-instance:8000/api/v1/training/jobs", stack, tmp_path)
    text = (stack.var_dir / "logs" / "server.log").read_text()
    assert "path=/api/v1/training/jobs" in text
    assert stack.key not in text
