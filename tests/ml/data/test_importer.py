"""From a file to a dataset version: format, target, schema, preview, and back through `load`."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.data import DataError, Images, Table, load
from ml.data.detect import FOREIGN, detect_format
from ml.data.importer import import_dataset


def imported(folder: Path, content: bytes | str, **options: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    (folder / "upload").write_bytes(data)
    return import_dataset(folder, "upload", **options)


@pytest.mark.parametrize(
    ("content", "hint", "found"),
    [
        ("a,b\n1,2\n", None, "csv"),
        ("a,b\n1,2\n", "json", "csv"),
        ("a;b\n1;2\n", None, "csv"),
        ("a\tb\n1\t2\n", "csv", "tsv"),
        ('[{"a": 1}]', "csv", "json"),
        ('{"data": [{"a": 1}]}', None, "json"),
        ('{\n "data": [{"a": 1}]}', None, "json"),
        ('{"a": 1}\n{"a": 2}\n', None, "jsonl"),
        ('\ufeff\n{"a": 1}', None, "jsonl"),
    ],
)
def test_the_content_tells_the_format(
    tmp_path: Path, content: str, hint: str | None, found: str
) -> None:
    path = tmp_path / "upload"
    path.write_text(content)

    assert detect_format(path, hint) == found


@pytest.mark.parametrize("magic", [magic for magic, _ in FOREIGN])
def test_foreign_formats_get_a_sentence_with_the_cure(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "upload"
    path.write_bytes(magic + b"\0" * 20)

    with pytest.raises(DataError) as caught:
        detect_format(path)
    assert caught.value.code == "unknown_format"


def test_a_table_is_described(tmp_path: Path) -> None:
    schema = imported(tmp_path / "v1", "size,colour,label\n1,red,a\n2.5,,b\n3,red,a\n")

    assert schema["format"] == "csv"
    assert (schema["kind"], schema["sample_count"], schema["dimensions"]) == ("table", 3, [3, 3])
    assert (schema["target"], schema["classes"]) == ("label", ["a", "b"])
    assert schema["columns"][0] == {
        "name": "size",
        "type": "number",
        "shape": None,
        "nulls": 0,
        "distinct": 3,
        "min": 1.0,
        "max": 3.0,
    }
    assert (schema["columns"][1]["nulls"], schema["columns"][1]["distinct"]) == (1, 1)
    assert schema["warnings"] == []


def test_schema_and_preview_are_files_beside_the_data(tmp_path: Path) -> None:
    schema = imported(tmp_path / "v1", "a,label\n1,x\n2,y\n")

    assert json.loads((tmp_path / "v1" / "schema.json").read_text()) == schema
    preview = json.loads((tmp_path / "v1" / "preview.json").read_text())
    assert preview["columns"] == ["a", "label"]
    assert preview["rows"] == [[1, "x"], [2, "y"]]
    assert preview["total"] == 2
    assert (tmp_path / "v1" / "data.csv").is_file()


def test_a_refused_file_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        imported(tmp_path / "v1", "a,b\n1\n")

    assert [path.name for path in (tmp_path / "v1").iterdir()] == ["upload"]


@pytest.mark.parametrize(
    ("header", "target", "warned"),
    [
        ("y,Label,b", "Label", False),
        ("y,class,b", "class", False),
        ("target,class,b", "target", False),
        ("Y,a,b", "Y", False),
        ("a,b,c", "c", True),
    ],
)
def test_the_target_follows_the_rule(
    tmp_path: Path, header: str, target: str, warned: bool
) -> None:
    schema = imported(tmp_path / "v1", f"{header}\n1,2,3\n4,5,6\n")

    assert schema["target"] == target
    assert bool(schema["warnings"]) is warned


def test_a_target_that_is_no_column_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'species'"):
        imported(tmp_path / "v1", "a,species\n1,2\n", target="specis")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 1, 2] * 5, [0, 1, 2]),
        ([0.5, 1.5], None),
        (list(range(25)), None),
        (list(range(25)) * 10, list(range(25))),
        (["b", "a"], ["a", "b"]),
        (["true", "false"], ["false", "true"]),
    ],
)
def test_a_target_has_classes_unless_it_is_a_quantity(
    tmp_path: Path, values: list[Any], classes: list[Any] | None
) -> None:
    rows = "".join(f"1,{value}\n" for value in values)

    assert imported(tmp_path / "v1", f"a,label\n{rows}")["classes"] == classes


def test_one_column_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one feature"):
        imported(tmp_path / "v1", "a\n1\n")


def test_a_table_is_loaded_as_the_trainer_needs_it(tmp_path: Path) -> None:
    imported(tmp_path / "v1", "a,b,c,d,label\n1,x,true,,yes\n,,false,,no\n3,z,true,,\n")

    table = load(tmp_path / "v1")

    assert isinstance(table, Table)
    assert list(table.features) == ["a", "b", "c"], "a column without values is left out"
    assert table.features["a"].dtype == np.float64
    assert np.isnan(table.features["a"][1])
    assert table.features["b"].tolist() == ["x", None]
    assert table.features["c"].tolist() == [1, 0]
    assert table.target is not None
    assert table.target.tolist() == ["yes", "no"], "a row without a target is left out"


def test_what_load_leaves_out_was_warned_of(tmp_path: Path) -> None:
    schema = imported(tmp_path / "v1", "a,d,label\n1,,yes\n3,,\n")

    assert schema["warnings"] == [
        "Column 'd' has no values and is left out of training.",
        "1 row has no 'label' and will not be learned from.",
    ]


def test_a_truth_value_to_learn_becomes_two_classes(tmp_path: Path) -> None:
    schema = imported(tmp_path / "v1", "a,label\n1,true\n2,false\n")
    table = load(tmp_path / "v1")

    assert isinstance(table, Table)
    assert table.target is not None
    assert table.target.tolist() == ["true", "false"]
    assert schema["classes"] == ["false", "true"]


def test_load_takes_another_target(tmp_path: Path) -> None:
    imported(tmp_path / "v1", "a,label\n1,x\n2,y\n")
    table = load(tmp_path / "v1", target="a")

    assert isinstance(table, Table)
    assert (table.target_name, list(table.features)) == ("a", ["label"])


def test_images_are_loaded_with_their_labels(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 5)).astype(np.uint8)
    np.savez(tmp_path / "v1" / "upload.npz", x=pixels, y=np.array(["a", "b", "a", "b"]))
    schema = import_dataset(tmp_path / "v1", "upload.npz")
    images = load(tmp_path / "v1")

    assert isinstance(images, Images)
    assert np.array_equal(images.pixels[..., 0], pixels)
    assert images.labels.tolist() == ["a", "b", "a", "b"]
    assert (schema["kind"], schema["dimensions"]) == ("image", [4, 5, 5, 1])
    preview = json.loads((tmp_path / "v1" / "preview.json").read_text())
    assert preview["rows"][0][0].startswith("data:image/png;base64,")
    assert preview["types"] == ["image", "string"]


def test_a_folder_without_a_schema_is_no_version(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"schema\.json"):
        load(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), hint=st.sampled_from([None, "csv", "jsonl", "npz"]))
def test_arbitrary_bytes_are_imported_or_refused(
    tmp_path: Path, content: bytes, hint: str | None
) -> None:
    with suppress(DataError):
        schema = imported(tmp_path / "v1", content, hint=hint)
        load(tmp_path / "v1")
        assert schema["sample_count"] >= 1
