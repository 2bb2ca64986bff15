"""Training from more data than there is memory for: a table and texts, in less than they take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.data.importer import import_dataset
from tests.ml.train import limited
from tests.ml.train.language import TINY
from tests.ml.train.runs import events, make_run

MEGABYTES = 56
"""What a training may take for its data; both datasets have nearly a hundred."""
ROWS, COLUMNS = 300_000, 40
CHATTER = "a note that nobody learns from, but that every reader of the file has to pass. " * 120


def make_table(folder: Path, rows: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {f"x{number}": random.random(rows) for number in range(COLUMNS)}
    columns["label"] = np.where(columns["x0"] > columns["x1"], "larger", "smaller")
    pq.write_table(pa.table(columns), folder / "upload", row_group_size=50_000)
    import_dataset(folder, "upload")
    return folder


def make_texts(folder: Path, rows: int) -> Path:
    folder.mkdir()
    with (folder / "upload").open("w") as file:
        for row in range(rows):
            pair = {"prompt": f"say {row % 50}", "completion": f"it is {row % 7}"}
            file.write(json.dumps({**pair, "notes": CHATTER}) + "\n")
    import_dataset(folder, "upload", "jsonl")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "few", "many", "fields"),
    [
        (make_table, 1_000, ROWS, {"recipe": "network", "batch_size": 4096}),
        (
            make_texts,
            100,
            10_000,
            {
                **{"recipe": "causal", "from_scratch": True, **TINY, "max_length": 24},
                **{"batch_size": 64, "max_new_tokens": 4, "generate_samples": 1},
            },
        ),
    ],
)
def test_it_learns_from_more_than_memory_holds(
    tmp_path: Path, make: Any, few: int, many: int, fields: dict[str, Any]
) -> None:
    small = make_run(tmp_path / "small", make(tmp_path / "few", few), epochs=1, **fields)
    large = make_run(tmp_path / "large", make(tmp_path / "many", many), epochs=1, **fields)
    stored = (tmp_path / "many" / "rows.arrow").stat().st_size
    assert stored > 1.5 * MEGABYTES * 2**20
    command = [sys.executable, "-P", limited.__file__, str(MEGABYTES)]
    command += [str(small.path), str(large.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [epoch] = events(large, type="epoch")
    assert epoch["epoch"] == 1
    assert not (large.path / "prepared").exists(), "only a training that goes on needs it"
