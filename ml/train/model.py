"""A small network with its preprocessing: build, load and predict.

Complete in itself: it needs torch, numpy and safetensors, and a copy of this file lies in
every exported model folder, so `predict(folder, rows)` works without the project it came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

BATCH = 1024


def build(config: Mapping[str, Any]) -> nn.Module:
    """The untrained network; input (N, features) or (N, channels, height, width)."""
    shape = list(config["input_shape"])
    layers: list[nn.Module] = []
    if config["architecture"] == "cnn":
        shape = _add_convolutions(layers, shape, config["channels"])
    layers.append(nn.Flatten())
    width = int(np.prod(shape))
    for size in config["hidden_sizes"]:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(config["dropout"])]
        width = size
    layers.append(nn.Linear(width, config["output_size"]))
    return nn.Sequential(*layers)


def _add_convolutions(
    layers: list[nn.Module], shape: list[int], widths: Sequence[int]
) -> list[int]:
    """Append one 3×3 convolution a width, halved while a side allows it; returns the new shape."""
    channels, height, width = shape
    for wide in widths:
        layers += [nn.Conv2d(channels, wide, kernel_size=3, padding=1), nn.ReLU()]
        channels = wide
        if min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return [channels, height, width]


def load(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network, ready to answer, and its preprocessing."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    preprocess = json.loads((folder / "preprocess.json").read_text("utf-8"))
    module = build(config)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    return module.eval(), {**preprocess, "task": config["task"]}


def predict(folder: str | Path, rows: Any) -> list[Any]:
    """One answer a row: a dict with label, probability and probabilities, or a number.

    `rows` is a list of dicts (a table) or an array of images, (N, H, W) or (N, H, W, C).
    """
    module, preprocess = load(folder)
    inputs = encode(preprocess, rows)
    with torch.inference_mode():
        parts = [module(to_tensor(preprocess, part)) for part in _split(inputs)]
    outputs = torch.cat(parts).numpy() if parts else np.zeros((0, 1), np.float32)
    return decode(preprocess, outputs)


def _split(inputs: np.ndarray) -> list[np.ndarray]:
    return [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]


def encode(preprocess: Mapping[str, Any], rows: Any) -> np.ndarray:
    """Rows as the array that to_tensor() takes; ValueError names what does not fit."""
    if preprocess["kind"] == "image":
        return encode_images(preprocess, np.asarray(rows))
    columns = {name: _column(rows, name) for name in preprocess["columns"]}
    return encode_table(preprocess, columns)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    for place, row in enumerate(rows, 1):
        if name not in row:  # an empty value is said as None; a forgotten column is a mistake
            raise ValueError(f"row {place} lacks the column {name!r}")
    return [row[name] for row in rows]


def encode_images(preprocess: Mapping[str, Any], pixels: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) of the trained size; the numbers are left as they are."""
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    wanted = tuple(preprocess["image_shape"])
    if pixels.shape[1:] != wanted:
        raise ValueError(f"images must have the shape {wanted}, got {pixels.shape[1:]}")
    return np.ascontiguousarray(pixels)


def encode_table(preprocess: Mapping[str, Any], columns: Mapping[str, Any]) -> np.ndarray:
    """Standardised numbers and one-hot categories, float32 (rows, features).

    An empty number becomes the mean; an empty or unknown category becomes zeros.
    """
    parts = []
    for name in preprocess["columns"]:
        encoding = preprocess["encodings"][name]
        if encoding["kind"] == "category":
            parts.append(_encode_categories(columns[name], encoding["categories"]))
        else:
            parts.append(encode_numbers(name, columns[name], encoding)[:, np.newaxis])
    return np.concatenate(parts, axis=1).astype(np.float32)


def _encode_categories(values: Any, categories: Sequence[str]) -> np.ndarray:
    places = {category: place for place, category in enumerate(categories)}
    hot = np.zeros((len(values), len(categories)), np.float32)
    for row, value in enumerate(values):
        place = places.get(str(value)) if value is not None else None
        if place is not None:
            hot[row, place] = 1.0
    return hot


def encode_numbers(name: str, values: Any, encoding: Mapping[str, Any]) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} must hold numbers: {error}") from error
    numbers = np.where(np.isfinite(numbers), numbers, encoding["mean"])
    standard: np.ndarray = (numbers - encoding["mean"]) / encoding["std"]
    return standard


def to_tensor(
    preprocess: Mapping[str, Any], inputs: np.ndarray, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """What the network takes: images are standardised by channel and turned to (N, C, H, W)."""
    tensor = torch.as_tensor(inputs, device=device)
    if preprocess["kind"] != "image":
        return tensor
    mean = torch.tensor(preprocess["mean"], device=device)
    std = torch.tensor(preprocess["std"], device=device)
    return ((tensor.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def decode(preprocess: Mapping[str, Any], outputs: np.ndarray) -> list[Any]:
    """Answers from the network's raw outputs, (N, output_size)."""
    if preprocess["task"] == "regression":
        scaled = outputs[:, 0].astype(np.float64) * preprocess["target_std"]
        return [float(number) for number in scaled + preprocess["target_mean"]]
    classes = preprocess["classes"]
    answers = []
    for row in probabilities(outputs):
        best = int(row.argmax())
        answers.append(
            {
                "label": classes[best],
                "probability": float(row[best]),
                "probabilities": {
                    str(label): float(share) for label, share in zip(classes, row, strict=True)
                },
            }
        )
    return answers


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax over the classes; a single output is the logit of the second of two classes."""
    logits = outputs.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return shares
