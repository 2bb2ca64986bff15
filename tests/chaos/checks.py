"""What must hold of a training, whatever happened to it on the way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ml.launch import marked_processes
from ml.rundir import RunDir, read_events

FIELDS: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 32,
    "seed": 1,
    "keep_checkpoints": 1,
    "hidden_sizes": [8],
    "device": "cpu",
}


def weights_of(run: RunDir) -> str:
    return hashlib.sha256((run.model_path / "model.safetensors").read_bytes()).hexdigest()


def check_files(run: RunDir, weights: str) -> None:
    """Same weights as undisturbed, no orphans, and never two attempts at once."""
    assert weights_of(run) == weights
    assert not run.is_locked()
    assert marked_processes(run.path) == []
    assert list(run.path.rglob("*.tmp")) == []
    check_no_double_run(run)


def check_no_double_run(run: RunDir) -> None:
    """Each attempt was begun by one process, after the one before had said its last word."""
    last = ""
    for folder in sorted(run.path.glob("attempt-*"), key=_number):
        events, _ = read_events(folder / "events.jsonl", 0)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        pids = {event["pid"] for event in events if event["type"] == "environment"}
        assert len(pids) <= 1, json.dumps(events)
        if events:
            assert last <= events[0]["at"]
            last = events[-1]["at"]


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("attempt-"))
