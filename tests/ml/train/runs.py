"""Tiny run directories and datasets, and two ways to train them: in this process or in a child."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ml.data.importer import import_dataset
from ml.rundir import RunDir, read_events
from ml.train.__main__ import main


def make_table(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "upload").write_text(text)
    import_dataset(folder, "upload", "csv")
    return folder


def make_flowers(folder: Path, rows: int = 90) -> Path:
    """Three classes that two numbers and a colour tell apart, one number missing."""
    random = np.random.default_rng(7)
    lines = ["length,width,colour,label"]
    for row in range(rows):
        kind = row % 3
        length, width = random.normal(3 * kind, 0.4), random.normal(5 - 2 * kind, 0.4)
        shown = "" if row == 4 else f"{length:.3f}"
        lines.append(f"{shown},{width:.3f},{('red', 'blue')[row % 2]},{'abc'[kind]}")
    return make_table(folder, "\n".join(lines) + "\n")


def make_line(folder: Path, rows: int = 80) -> Path:
    """y = 3x - 20 with a little noise: a regression."""
    random = np.random.default_rng(7)
    x = random.normal(0, 2, rows)
    y = 3 * x - 20 + random.normal(0, 0.05, rows)
    return make_table(
        folder, "x,y\n" + "".join(f"{a:.4f},{b:.4f}\n" for a, b in zip(x, y, strict=True))
    )


def make_pictures(folder: Path, count: int = 120) -> Path:
    """8×8 images of noise with a bright half: left, right, top or bottom."""
    random = np.random.default_rng(7)
    pixels = random.integers(0, 100, (count, 8, 8, 1)).astype(np.uint8)
    labels = np.arange(count) % 4
    halves = (np.s_[:, :4], np.s_[:, 4:], np.s_[:4, :], np.s_[4:, :])
    for picture, label in zip(pixels, labels, strict=True):
        picture[halves[label]] += 100
    folder.mkdir(parents=True)
    np.savez(folder / "data.npz", image=pixels, label=labels)
    import_dataset(folder, "data.npz")
    return folder


def make_run(path: Path, dataset: Path, **fields: Any) -> RunDir:
    run = RunDir(path)
    sizes = {"hidden_sizes": [8]} if fields.get("recipe", "network") == "network" else {}
    config = {**sizes, "epochs": 3, "seed": 3, "device": "cpu", **fields}
    run.create({"session": path.name, "dataset": {"path": str(dataset)}, **config})
    return run


def train(run: RunDir, attempt: int = 1) -> int:
    return main([str(run.path), "--attempt", str(attempt)])


def start(run: RunDir, attempt: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "ml.train", str(run.path), "--attempt", str(attempt)]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(command, cwd=run.path, env=environment)


def events(run: RunDir, attempt: int = 1, type: str | None = None) -> list[dict[str, Any]]:
    found, _ = read_events(run.journal_path(attempt), 0)
    return [event for event in found if type in (None, event["type"])]


def wait_for_events(
    run: RunDir, attempt: int, count: int, child: subprocess.Popen[bytes], type: str = "step"
) -> None:
    """Until so many events are written, or the child has ended."""
    while len(events(run, attempt, type)) < count and child.poll() is None:
        time.sleep(0.005)


def history(run: RunDir, attempt: int) -> list[dict[str, Any]]:
    """Every epoch the attempt knows of, without what the clock says."""
    [started] = events(run, attempt, "started")
    records = [*started["history"], *events(run, attempt, "epoch")]
    return [plain(record) for record in records]


def plain(record: dict[str, Any]) -> dict[str, Any]:
    names = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    extra = {name: value for name, value in record["extra"].items() if "seconds" not in name}
    return {**{name: record[name] for name in names}, **extra}
