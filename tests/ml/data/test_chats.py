"""Datasets that only language models learn from: one column of text, and chats."""

import json
from pathlib import Path

import pytest

from ml.data import DataError
from ml.data.importer import import_dataset


def take_in(folder: Path, rows: list[object]) -> dict[str, object]:
    (folder / "upload").write_text("\n".join(json.dumps(row) for row in rows))
    return import_dataset(folder, "upload", "jsonl")


def test_one_column_of_text_is_a_text(tmp_path: Path) -> None:
    schema = take_in(tmp_path, [{"text": "one"}, {"text": "two"}])
    assert (schema["kind"], schema["target"], schema["sample_count"]) == ("text", None, 2)


def test_one_column_of_numbers_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one feature and a target"):
        take_in(tmp_path, [{"x": 1}, {"x": 2}])


def test_a_chat_is_kept_as_its_json(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "grüß"}, {"role": "assistant", "content": "Gott"}]
    schema = take_in(tmp_path, [{"messages": chat}] * 3)
    assert schema["kind"] == "text"
    preview = json.loads((tmp_path / "preview.json").read_text())
    assert json.loads(preview["rows"][0][0]) == chat


def test_a_list_in_any_other_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the value is a list"):
        take_in(tmp_path, [{"tags": ["a"], "label": 1}])
