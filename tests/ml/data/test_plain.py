"""Plain text: paragraphs or lines, and when a .txt is a table after all."""

import json
from pathlib import Path

import pytest

from ml.data import load
from ml.data.content import DataError
from ml.data.detect import detect_format
from ml.data.importer import import_dataset


def imported(tmp_path: Path, content: bytes | str, **options: str) -> list[str]:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / "upload").write_bytes(data)
    schema = import_dataset(tmp_path, "upload", "txt", **options)
    assert (schema["format"], schema["kind"], schema["target"]) == ("txt", "text", None)
    preview = json.loads((tmp_path / "preview.json").read_text())
    assert schema["sample_count"] == preview["total"]
    return [row[0] for row in preview["rows"]]


def test_each_line_is_a_record(tmp_path: Path) -> None:
    assert imported(tmp_path, "one\n two \r\nthree") == ["one", "two", "three"]


def test_each_paragraph_is_a_record_where_blank_lines_part_them(tmp_path: Path) -> None:
    text = "\ufeff\n\nFirst,\nstill first.\n\n \nSecond.\n\n"
    assert imported(tmp_path, text) == ["First,\nstill first.", "Second."]


def test_blank_lines_at_the_ends_part_nothing(tmp_path: Path) -> None:
    assert imported(tmp_path, "\n\none\ntwo\n\n") == ["one", "two"]


def test_the_schema_says_what_a_record_is(tmp_path: Path) -> None:
    imported(tmp_path, "one\ntwo")
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert schema["warnings"] == ["Each line is one record."]


@pytest.mark.parametrize(
    ("content", "hint", "found"),
    [
        ("a,label\n1,x\n2,y\n", "txt", "csv"),
        ("a\tlabel\n1\tx\n", "txt", "tsv"),
        ("Hello, world.\n", "txt", "txt"),
        ("Well, well, said he.\nNo, said she.\n", "txt", "txt"),
        ("# Title\n\nA text, with a comma.\n", "md", "txt"),
        ("a,label\n1,x\n", None, "csv"),
        ('{"a": 1}\n{"a": 2}\n', "txt", "jsonl"),
    ],
)
def test_the_content_decides_and_the_name_only_breaks_ties(
    tmp_path: Path, content: str, hint: str | None, found: str
) -> None:
    (tmp_path / "upload").write_text(content)
    assert detect_format(tmp_path / "upload", hint) == found


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b" \n\n", "empty"),
        (b"ab\xff\n", "Line 1 is not UTF-8"),
        (b"a\0b", "NUL"),
        ("ü".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        imported(tmp_path, content)


def test_a_target_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="plain text") as caught:
        imported(tmp_path, "one\ntwo", target="label")
    assert caught.value.code == "unknown_target"


def test_a_network_cannot_learn_from_it(tmp_path: Path) -> None:
    imported(tmp_path, "one\ntwo")
    with pytest.raises(DataError, match="no column to learn"):
        load(tmp_path)
