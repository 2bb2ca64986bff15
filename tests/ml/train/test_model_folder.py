"""The exported folder: plain PyTorch loads it, and answers as the trainer's evaluation did."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.config import DatasetReference, NetworkConfig, parse_config
from ml.data import Images, Table, load
from ml.rundir import RunDir, read_json
from ml.train import model
from ml.train.prepare import Prepared, prepare
from tests.ml.train.runs import make_flowers, make_line, make_pictures, make_run, train

ALONE = """
import json, runpy, sys
import numpy as np
folder, kind = sys.argv[1:]
model = runpy.run_path(folder + "/model.py")
given = json.load(sys.stdin)
answers = model["predict"](folder, given if kind == "table" else np.array(given, np.uint8))
assert not {"ml", "django"} & set(sys.modules), "the folder needs the project"
json.dump(answers, sys.stdout)
"""


def predict_alone(run: RunDir, given: Any, kind: str) -> Any:
    """In a fresh interpreter, from another folder, with nothing of this project."""
    command = [sys.executable, "-I", "-c", ALONE, str(run.model_path), kind]
    child = subprocess.run(command, input=json.dumps(given).encode(), capture_output=True, cwd="/")
    assert child.returncode == 0, child.stderr.decode()
    return json.loads(child.stdout)


def trained(tmp_path: Path, dataset: Path, **fields: Any) -> tuple[RunDir, Prepared]:
    run = make_run(tmp_path / "run", dataset, epochs=4, **fields)
    assert train(run) == 0
    config = parse_config(read_json(run.config_path) or {})
    assert isinstance(config, NetworkConfig)
    return run, prepare(config, run.path)


def rows_of(dataset: Path, places: np.ndarray) -> list[dict[str, Any]]:
    table = load(dataset)
    assert isinstance(table, Table)
    columns = {name: values.tolist() for name, values in table.features.items()}
    rows = [{name: columns[name][place] for name in columns} for place in places.tolist()]
    return [{name: None if x != x else x for name, x in row.items()} for row in rows]


def metrics_of(run: RunDir) -> dict[str, float]:
    found: dict[str, float] = (run.read_result(1) or {})["metrics"]
    return found


def test_a_table_is_answered_as_in_the_evaluation(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    run, data = trained(tmp_path, dataset, learning_rate=0.02)
    answers = predict_alone(run, rows_of(dataset, data.validation_rows), "table")
    classes = data.preprocess["classes"]
    right = [
        answer["label"] == classes[target]
        for answer, target in zip(answers, data.targets[data.validation_rows], strict=True)
    ]
    assert np.mean(right) == pytest.approx(metrics_of(run)["val_accuracy"])
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1)


def test_images_are_answered_as_in_the_evaluation(tmp_path: Path) -> None:
    dataset = make_pictures(tmp_path / "data")
    run, data = trained(tmp_path, dataset, channels=[4], batch_size=8, learning_rate=0.01)
    images = load(dataset)
    assert isinstance(images, Images)
    pixels = images.pixels[data.validation_rows, :, :, 0]
    answers = predict_alone(run, pixels.tolist(), "image")
    right = [
        answer["label"] == label
        for answer, label in zip(answers, images.labels[data.validation_rows], strict=True)
    ]
    assert np.mean(right) == pytest.approx(metrics_of(run)["val_accuracy"])


def test_numbers_are_answered_in_the_units_of_the_target(tmp_path: Path) -> None:
    dataset = make_line(tmp_path / "data")
    run, data = trained(tmp_path, dataset, learning_rate=0.02, batch_size=8)
    answers = predict_alone(run, rows_of(dataset, data.validation_rows), "table")
    table = load(dataset)
    assert isinstance(table, Table)
    assert table.target is not None
    errors = np.abs(np.array(answers) - table.target[data.validation_rows])
    assert errors.mean() == pytest.approx(metrics_of(run)["mae"], rel=1e-4)


def test_two_classes_of_one_output_get_both_probabilities(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "data")
    run, data = trained(tmp_path, dataset, target="colour", loss_function="bce")
    rows = [{"length": 1.0, "width": None, "label": "a"}]
    [answer] = model.predict(run.model_path, rows)
    assert set(answer["probabilities"]) == {"blue", "red"}
    assert answer["probability"] == max(answer["probabilities"].values())
    assert data.preprocess["target"] == "colour"


def test_the_files_say_what_they_hold(tmp_path: Path) -> None:
    run, _ = trained(tmp_path, make_flowers(tmp_path / "data"))
    assert read_json(run.model_path / "config.json") == {
        "task": "classification",
        "loss_function": "cross_entropy",
        "output_size": 3,
        "architecture": "mlp",
        "input_shape": [4],
        "hidden_sizes": [8],
        "channels": [],
        "dropout": 0.1,
    }
    preprocess = read_json(run.model_path / "preprocess.json") or {}
    assert preprocess["columns"] == ["length", "width", "colour"]
    assert preprocess["encodings"]["colour"]["categories"] == ["blue", "red"]
    assert (preprocess["target"], preprocess["classes"]) == ("label", ["a", "b", "c"])


@pytest.fixture
def flowers_model(tmp_path: Path) -> Path:
    return trained(tmp_path, make_flowers(tmp_path / "data"))[0].model_path


def test_it_refuses_a_row_without_a_column(flowers_model: Path) -> None:
    with pytest.raises(ValueError, match="row 1 lacks the column 'width'"):
        model.predict(flowers_model, [{"length": 1, "colour": "red"}])


def test_it_refuses_text_where_a_number_belongs(flowers_model: Path) -> None:
    with pytest.raises(ValueError, match="column 'length' must hold numbers"):
        model.predict(flowers_model, [{"length": "long", "width": 1, "colour": "red"}])


def test_an_unknown_category_and_no_rows_are_answered(flowers_model: Path) -> None:
    assert model.predict(flowers_model, [{"length": 1, "width": 1, "colour": "green"}])
    assert model.predict(flowers_model, []) == []


def test_it_refuses_images_of_another_size(tmp_path: Path) -> None:
    run, _ = trained(tmp_path, make_pictures(tmp_path / "data", 24), channels=[2])
    with pytest.raises(ValueError, match=r"images must have the shape \(8, 8, 1\)"):
        model.predict(run.model_path, np.zeros((2, 9, 9), np.uint8))


def test_a_reference_may_be_relative_to_the_run(tmp_path: Path) -> None:
    make_flowers(tmp_path / "run" / "data")
    config = parse_config({"dataset": {"path": "data"}})
    assert isinstance(config, NetworkConfig)
    assert isinstance(config.dataset, DatasetReference)
    assert len(prepare(config, tmp_path / "run").targets) == 90
