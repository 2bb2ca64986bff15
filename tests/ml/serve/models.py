"""Small models, written by hand or trained for a moment, in folders as the registry has them."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from ml.config import FeaturesConfig, parse_config
from ml.features.learn import fit_table, fit_texts
from ml.train import model as network

FLOAT = TensorProto.FLOAT
COLUMNS = ["x", "colour"]
SAFE_CODE = "def add(one, other):\n    return one + other\n"
UNSAFE_CODE = "import os\nos.system('rm -rf /')\n"


def write_onnx(
    folder: Path,
    *,
    sizes: tuple[int, ...] = (4, 8, 3),
    first: int | str = "rows",
    external: str | None = None,
) -> Path:
    """A perceptron: input `x` (rows, 4), output `y` (rows, 3); its path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    nodes, weights, at = [], [], "x"
    for place, (wide, narrow) in enumerate(pairwise(sizes)):
        values = rng.standard_normal((wide, narrow)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{place}"))
        is_last = place == len(sizes) - 2
        nodes.append(
            helper.make_node("MatMul", [at, f"w{place}"], ["y" if is_last else f"a{place}"])
        )
        if not is_last:
            nodes.append(helper.make_node("Relu", [f"a{place}"], [f"h{place}"]))
            at = f"h{place}"
    return save(
        folder / "model.onnx", nodes, weights, (first, sizes[0]), (first, sizes[-1]), external
    )


def write_gather(folder: Path) -> Path:
    """Rows of a table of ten by their place `x`, INT64: place 10 is an error of that row alone."""
    folder.mkdir(parents=True, exist_ok=True)
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(10, 2), "w")
    node = helper.make_node("Gather", ["w", "x"], ["y"])
    return save(
        folder / "model.onnx", [node], [table], ("rows",), ("rows", 2), kind=TensorProto.INT64
    )


def write_words(folder: Path) -> Path:
    """Strings `x` (rows, 2) come back as they are, in `y`."""
    folder.mkdir(parents=True, exist_ok=True)
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(
        folder / "model.onnx", [node], [], ("rows", 2), ("rows", 2),
        kind=TensorProto.STRING, answer=TensorProto.STRING,
    )  # fmt: skip


def write_hog(folder: Path) -> Path:
    """A few hundred bytes that ask for 64 GB as soon as they run."""
    folder.mkdir(parents=True, exist_ok=True)
    size = numpy_helper.from_array(np.array([2**34], np.int64), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"]),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return save(folder / "model.onnx", nodes, [size], ("rows",), ("rows",))


def save(
    path: Path,
    nodes: list[Any],
    weights: list[Any],
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    external: str | None = None,
    kind: int = FLOAT,
    answer: int = FLOAT,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, before)],
        [helper.make_tensor_value_info("y", answer, after)],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(
        made,
        path,
        save_as_external_data=external is not None,
        location=external or "",
        size_threshold=0,
    )
    return path


def write_network(folder: Path) -> Path:
    """A table's network as recipe `network` leaves it: a number and a colour, two classes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architecture": "mlp",
        "input_shape": [3],
        "hidden_sizes": [5],
        "dropout": 0.0,
        "output_size": 2,
        "task": "classification",
    }
    preprocess = {
        "kind": "table",
        "columns": COLUMNS,
        "encodings": {
            "x": {"kind": "number", "mean": 1.0, "std": 2.0},
            "colour": {"kind": "category", "categories": ["red", "7"]},
        },
        "classes": ["no", "yes"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocess.json").write_text(json.dumps(preprocess))
    save_file(network.build(config).state_dict(), folder / "model.safetensors")
    return folder


def write_features(folder: Path, kind: str) -> Path:
    """A classical model of a `table`, of `text` or of `code`, as recipe `features` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = parse_config({"recipe": "features", "dataset": "d", "min_document_frequency": 1})
    assert isinstance(config, FeaturesConfig)
    targets = np.arange(20) % 2
    if kind == "table":
        colours = np.array(["red", "blue"] * 10, dtype=object)
        columns = {"x": np.arange(20.0), "colour": colours}
        fitted = fit_table(config, columns, {"colour": ["blue", "red"]}, targets, ["no", "yes"])
    elif kind == "code":
        texts = [SAFE_CODE, UNSAFE_CODE] * 10
        fitted = fit_texts(config, "code", "code", texts, targets, ["safe", "vulnerable"])
    else:
        texts = ["good and kind", "bad and cruel"] * 10
        fitted = fit_texts(config, "text", "body", texts, targets, ["no", "yes"])
    (folder / "model.onnx").write_bytes(fitted.onnx)
    (folder / "preprocess.json").write_text(json.dumps(fitted.preprocess))
    return folder


def list_files(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": path.relative_to(folder).as_posix(),
            "size_bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
