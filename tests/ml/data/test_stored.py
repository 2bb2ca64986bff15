"""Rows that are read batch by batch say the same as rows that lie in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.data import DataError, Images, Table, load
from ml.data.importer import import_dataset
from ml.data.loader import read_version, read_version_schema
from ml.data.preview import preview_rows
from ml.data.statistics import describe_content
from ml.data.stored import StoredRows
from tests.ml.data.archives import pets

COUNT = 60
ROWS: list[dict[str, Any]] = [
    {
        "whole": row if row % 7 else None,
        "number": row / 3 if row > 20 else row,
        "truth": row % 3 == 0,
        "often": row % 3 == 0 if row % 5 else None,
        "empty": None,
        "late": f"text {row % 4} with words" if row > 40 else None,
        "split": ("train", "dev", "train")[row % 3],
        "group": f"file {row // 4}",
        "label": "abc"[row % 3] if row != 8 else None,
    }
    for row in range(COUNT)
]


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_csv(path: Path) -> None:
    lines = [",".join(ROWS[0])]
    for row in ROWS:
        lines.append(",".join("" if value is None else str(value) for value in row.values()))
    path.write_text("\n".join(lines) + "\n")


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=25)


def as_paragraphs(path: Path) -> None:
    path.write_text("\n\n".join(f"Paragraph {row}\nof two lines." for row in range(COUNT)))


def as_table_of_numbers(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3.0 * COUNT).reshape(COUNT, 3) % 7)


def as_images(path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (COUNT, 3, 5, 4)).astype(np.int16)
    with path.open("wb") as file:
        np.savez(file, x=pixels, y=np.arange(COUNT) % 4)


def as_pets(path: Path) -> None:
    pets(path)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Batches of a few rows, and nothing kept in memory."""
    for module in ("records", "delimited", "plain", "arrays", "parquet"):
        patch.setattr(f"ml.data.{module}.BATCH_ROWS", 7)
    patch.setattr("ml.data.delimited.BLOCK_BYTES", 250)
    patch.setattr("ml.data.stored.KEPT_BYTES", 0)
    patch.setattr("ml.data.npy.PART_BYTES", 500)


def everything_about(folder: Path, write: Callable[[Path], None]) -> dict[str, Any]:
    folder.mkdir()
    write(folder / "upload")
    schema = import_dataset(folder, "upload")
    content = read_version(folder, read_version_schema(folder))
    del schema["stored"]["batches"]
    return {
        "schema": schema,
        "statistics": describe_content(content, schema["target"]),
        "first": json.loads((folder / "preview.json").read_text()),
        "later": preview_rows(content, 18, 15),
        "loaded": None if schema["kind"] == "text" else plain(load(folder)),
    }


def plain(data: Table | Images) -> dict[str, Any]:
    if isinstance(data, Images):
        return {"pixels": data.pixels.tolist(), "labels": data.labels.tolist()}
    parts = {"splits": data.splits, "groups": data.groups}
    return {
        "features": {name: (str(v.dtype), str(v.tolist())) for name, v in data.features.items()},
        "target": data.target.tolist(),
        **{name: values if values is None else values.tolist() for name, values in parts.items()},
    }


@pytest.mark.parametrize(
    "write",
    [as_jsonl, as_csv, as_parquet, as_paragraphs, as_table_of_numbers, as_images, as_pets],
)
def test_batches_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    whole = everything_about(tmp_path / "whole", write)
    with monkeypatch.context() as patch:
        make_small(patch)
        assert everything_about(tmp_path / "parts", write) == whole


def test_a_version_from_before_rows_were_stored_is_read_all_the_same(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "upload")
    schema = import_dataset(tmp_path, "upload")
    before = plain(load(tmp_path))
    del schema["stored"]
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    (tmp_path / "rows.arrow").unlink()
    assert plain(load(tmp_path)) == before


def test_rows_that_are_gone_are_a_sentence(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "upload")
    import_dataset(tmp_path, "upload")
    (tmp_path / "rows.arrow").unlink()
    with pytest.raises(DataError, match="rows of this dataset version are gone"):
        load(tmp_path)


def test_a_large_file_is_never_in_memory_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    as_jsonl(tmp_path / "upload")
    import_dataset(tmp_path, "upload")
    rows = read_version(tmp_path, read_version_schema(tmp_path))
    assert isinstance(rows, StoredRows)
    assert max(len(batch) for batch in rows.batches()) == 7
    assert [each.columns[0].name for each in rows.batches(["label"])] == ["label"] * 9


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (['{"a": 1, "b": 1}'] * 20 + ['{"a": "x", "b": 1}'], "Row 21, column 'a': the value is a"),
        (['{"a": 1, "b": 1}'] * 20 + ["[]"], "Row 21 is a list"),
        (['{"a": 1, "b": 1}'] * 20 + ['{"a": [1]}'], "Row 21, column 'a'"),
        (["a,b"] + ["1,2"] * 100 + ["1"], "Row 101 has 1 value"),
        (["a,b"] + ["1.5,2"] * 100 + ["inf,2"], "Row 101, column 'a': the value is infinite"),
        (["a,b"] + ["1,x"] * 100 + ['2,"y'], "Row 101: a quote is opened and never closed"),
    ],
)
def test_a_row_far_down_is_counted_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], sentence: str
) -> None:
    make_small(monkeypatch)
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "upload").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=sentence):
        import_dataset(folder, "upload")
    assert [path.name for path in folder.iterdir()] == ["upload"]


def test_words_far_down_in_a_column_of_numbers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    (tmp_path / "upload").write_text("a,b\n" + "007,1\n" * 90 + "unknown,2\nnone,3\n")
    schema = import_dataset(tmp_path, "upload")
    assert "2 of its 92 values are not numbers; the first is 'unknown' in row 91" in str(
        schema["warnings"]
    )
    table = load(tmp_path)
    assert isinstance(table, Table)
    assert table.features["a"][0] == "007", "as it was written"


CELLS = ["", "1", "0", "-2", "+3", " 4", "007", "0x1F", "1.5", "1e3", "nan", "inf", "true", "False"]
CELLS += ["TRUE", "tRUE", "NA", '""', '"5"', '"NA"', "2020-01-01", "12:30", "x", "9" * 19, "9" * 25]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(st.sampled_from(CELLS), min_size=2, max_size=2), min_size=1, max_size=12))
def test_types_are_those_that_pyarrow_finds_in_the_whole_file(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    text = "a,b\n" + "".join(",".join(row) + "\n" for row in rows)
    folder = tmp_path / "v"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "upload").write_text(text)
    options = pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    found = pacsv.read_csv(folder / "upload", convert_options=options)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        try:
            schema = import_dataset(folder, "upload", "csv")
        except DataError:  # an infinite number, or a quote that never closes
            return
    types = {column["name"]: column["type"] for column in schema["columns"]}
    usual = {pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "boolean"}
    assert types == {each.name: usual.get(each.type, "string") for each in found.schema}
