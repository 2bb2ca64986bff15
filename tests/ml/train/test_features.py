"""The recipe `features` as a run: from config.json to a model folder that answers by itself."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ml.data.importer import import_dataset
from ml.rundir import RunDir
from tests.ml.train.runs import events, make_flowers, make_line, make_pictures, train


def make_run(path: Path, dataset: Path, **fields: Any) -> RunDir:
    run = RunDir(path)
    config = {"recipe": "features", "dataset": {"path": str(dataset)}, "seed": 3, **fields}
    run.create({"session": path.name, **config})
    return run


def make_snippets(folder: Path, count: int = 60) -> Path:
    """Calls of eval are wrong; a source, whole groups, and a split by them."""
    folder.mkdir(parents=True)
    with (folder / "upload").open("w") as stream:
        for row in range(count):
            is_wrong = row % 2 == 1
            call = "eval" if is_wrong else "parse"
            fields = {
                "text": f"def f{row}(x):\n    y = {call}(x)\n    return y\n",
                "label": "vulnerable" if is_wrong else "safe",
                "source": ("template", "library")[row % 3 // 2],
                "group": f"group-{row // 4}",
                "split": "validation" if row // 4 % 5 == 0 else "train",
            }
            stream.write(json.dumps(fields) + "\n")
    import_dataset(folder, "upload", "jsonl")
    return folder


def load_model(run: RunDir) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported", run.model_path / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(run: RunDir) -> dict[str, Any]:
    found = run.read_result(1)
    assert found is not None
    return found


@pytest.mark.parametrize("algorithm", ["logistic_regression", "random_forest", "gradient_boosting"])
def test_a_table_is_learned_in_one_epoch(tmp_path: Path, algorithm: str) -> None:
    dataset = make_flowers(tmp_path / "flowers")
    run = make_run(tmp_path / "run", dataset, algorithm=algorithm, trees=20)
    assert train(run) == 0

    [record] = events(run, type="epoch")
    assert record["val_accuracy"] > 0.9
    assert record["extra"]["macro_f1"] > 0.9
    [evaluated] = events(run, type="evaluated")
    assert np.sum(evaluated["confusion"]) == 18
    row = {"length": 6.0, "width": 1.0, "colour": "red"}
    [answer] = load_model(run).predict(run.model_path, [row])
    assert answer["label"] == "c"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_number_is_learned(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_line(tmp_path / "line"))
    assert train(run) == 0
    assert result(run)["metrics"]["r2"] > 0.99
    [answer] = load_model(run).predict(run.model_path, [{"x": 2.0}])
    assert answer == pytest.approx(-14, abs=0.5)


def test_code_is_learned_with_figures_by_source(tmp_path: Path) -> None:
    dataset = make_snippets(tmp_path / "snippets")
    run = make_run(tmp_path / "run", dataset, class_weights="balanced")
    assert train(run) == 0

    metrics = result(run)["metrics"]
    assert metrics["accuracy_template"] == metrics["accuracy_library"] == 1.0
    [told] = events(run, type="warning")
    assert "holds back 12 of 60 rows" in told["message"]
    [answer] = load_model(run).predict(run.model_path, [{"text": "def g(z):\n    return eval(z)"}])
    assert answer["label"] == "vulnerable"


def test_the_folder_explains_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_snippets(tmp_path / "snippets"))
    assert train(run) == 0

    names = {path.name for path in run.model_path.iterdir()}
    assert names == {"model.onnx", "config.json", "preprocess.json", "model.py", "README.md"}
    card = (run.model_path / "README.md").read_text()
    assert "| library |" in card
    assert "| template |" in card
    assert "What it cannot do" in card
    config = json.loads((run.model_path / "config.json").read_text())
    assert config["framework"] == "onnx"
    assert config["task"] == "classification"
    assert config["signature"]["inputs"] == [{"name": "text", "type": "string"}]


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "flowers")
    graphs = []
    for name in ("one", "two"):
        run = make_run(tmp_path / name, dataset, algorithm="random_forest", trees=5)
        assert train(run) == 0
        graphs.append((run.model_path / "model.onnx").read_bytes())
    assert graphs[0] == graphs[1]


def test_without_held_back_rows_the_card_says_that_nothing_is_known(tmp_path: Path) -> None:
    dataset = make_flowers(tmp_path / "flowers")
    run = make_run(tmp_path / "run", dataset, validation_split=0)
    assert train(run) == 0
    assert events(run, type="epoch")[0]["val_loss"] is None
    assert "nothing is known" in (run.model_path / "README.md").read_text()


def test_a_cancelled_one_leaves_no_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "flowers"))
    run.write_control("cancel")
    assert train(run) == 0
    assert result(run)["status"] == "cancelled"
    assert not run.model_path.exists()


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        ({"algorithm": "ridge"}, "spec_error", "algorithm ridge"),
        ({"input": "text"}, "spec_error", "needs a text_column"),
        ({"text_column": "colour", "min_document_frequency": 500}, "data_error", "No feature"),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, fields: dict[str, Any], code: str, sentence: str
) -> None:
    run = make_run(tmp_path / "run", make_flowers(tmp_path / "flowers"), **fields)
    assert train(run) != 0
    error = result(run)["error"]
    assert error["code"] == code
    assert sentence in error["message"]


def test_images_are_for_another_recipe(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_pictures(tmp_path / "pictures"))
    assert train(run) != 0
    assert "choose network" in result(run)["error"]["message"]
