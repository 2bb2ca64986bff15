"""The columns `split` and `group`: when they count, and what becomes of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.data import Table, load
from ml.data.importer import import_dataset


def version(folder: Path, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], Table]:
    (folder / "upload").write_text("".join(json.dumps(row) + "\n" for row in rows))
    schema = import_dataset(folder, "upload", "jsonl")
    table = load(folder)
    assert isinstance(table, Table)
    return schema, table


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    return [
        {"x": row, **{name: values[row] for name, values in columns.items()}, "label": row % 2}
        for row in range(count)
    ]


def test_a_split_column_is_no_feature(tmp_path: Path) -> None:
    schema, table = version(tmp_path, rows(split=["train", "Valid", "dev", "test"]))
    assert list(table.features) == ["x"]
    assert table.splits is not None
    assert table.splits.tolist() == ["train", "validation", "validation", "test"]
    told = "The column 'split' decides which rows are held back: 1 test, 1 train, 2 validation."
    assert told in schema["warnings"]
    assert schema["splits"] == {"test": 1, "train": 1, "validation": 2}


@pytest.mark.parametrize("values", [["left", "right"], ["train", None], ["test", "dev"]])
def test_other_words_are_an_ordinary_column(tmp_path: Path, values: list[Any]) -> None:
    _, table = version(tmp_path, rows(split=values))
    assert table.splits is None
    assert "split" in table.features


def test_a_group_column_keeps_rows_together(tmp_path: Path) -> None:
    schema, table = version(tmp_path, rows(group=[f"file-{row // 2}" for row in range(24)]))
    assert table.groups is not None
    assert len(np.unique(table.groups)) == 12
    assert list(table.features) == ["x"]
    told = "The column 'group' keeps rows together when some are held back: 12 groups."
    assert told in schema["warnings"]


def test_a_few_groups_are_a_feature(tmp_path: Path) -> None:
    _, table = version(tmp_path, rows(group=["control", "treated"] * 6))
    assert table.groups is None
    assert "group" in table.features


def test_the_split_is_never_taken_as_the_target(tmp_path: Path) -> None:
    lines = [{"file": "a.py", "text": "pass", "split": part} for part in ("train", "dev")]
    schema, _ = version(tmp_path, lines)
    assert schema["target"] == "text"


def test_rows_without_a_target_take_their_part_with_them(tmp_path: Path) -> None:
    lines = rows(split=["train", "train", "dev"])
    lines[1]["label"] = None
    _, table = version(tmp_path, lines)
    assert table.splits is not None
    assert table.splits.tolist() == ["train", "validation"]
