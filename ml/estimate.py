"""What a training will take, by arithmetic on its configuration: steps, memory, disk.

Standard library only, so that Django may import it while a person types. Sizes that were
measured (ml.train.look) go through the same sums as those that were reckoned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FLOAT_BYTES = 4
OPTIMIZER_SLOTS = {"adam": 2, "adamw": 2, "nadam": 2, "rmsprop": 1, "adagrad": 1, "sgd": 1}
"""Numbers that an optimizer keeps for each weight; sgd has its momentum."""
PROCESS_BYTES = 400 * 2**20
"""A Python process with torch loaded, before it has any data."""
CONTEXT_BYTES = 500 * 2**20
"""What CUDA takes on a GPU for a process, before it has any tensor."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Samples are what a step takes: rows of the dataset, or blocks of packed texts."""

    training_samples: int
    validation_samples: int
    steps_per_epoch: int
    steps: int


def count_steps(config: Mapping[str, Any], samples: int) -> Steps:
    """Of a dataset with so many samples; a split by class may move a few of them."""
    held_back = round(samples * config["validation_split"])
    return count_steps_of(config, samples - held_back, held_back)


def count_steps_of(config: Mapping[str, Any], learned: int, held_back: int) -> Steps:
    """Of samples that were counted. A recipe without batches takes all of them in one step."""
    group = config.get("batch_size", learned) * config.get("gradient_accumulation", 1)
    per_epoch = math.ceil(learned / group)
    return Steps(
        training_samples=learned,
        validation_samples=held_back,
        steps_per_epoch=per_epoch,
        steps=per_epoch * config["epochs"],
    )


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a model: all its weights, those that are trained, and what one sample leaves behind
    for the backward pass."""

    parameters: int
    trainable_parameters: int
    activation_bytes_per_sample: float


def network_sizes(config: Mapping[str, Any], input_shape: Sequence[int], output_size: int) -> Sizes:
    """Of the recipe `network` (ml.train.model.build); shape (features,) or (channels, H, W)."""
    parameters = 0
    activations = math.prod(input_shape)
    width = math.prod(input_shape)
    if len(input_shape) == 3:
        channels, height, side = input_shape
        for wide in config["channels"]:
            parameters += wide * channels * 9 + wide
            activations += 2 * wide * height * side  # the convolution's output, and ReLU's
            channels = wide
            if min(height, side) >= 2:
                height, side = height // 2, side // 2
                activations += 3 * wide * height * side  # output, and 8-byte indices of the pool
        width = channels * height * side
    for size in config["hidden_sizes"]:
        parameters += width * size + size
        activations += 2 * size
        width = size
    parameters += width * output_size + output_size
    return Sizes(
        parameters=parameters,
        trainable_parameters=parameters,
        activation_bytes_per_sample=FLOAT_BYTES * (activations + output_size),
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the largest moment of a step."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    process_bytes: int

    @property
    def needed_bytes(self) -> int:
        parts = self.weights_bytes + self.gradients_bytes + self.optimizer_bytes
        return parts + self.activations_bytes + self.process_bytes


def estimate_memory(config: Mapping[str, Any], sizes: Sizes, *, on_gpu: bool) -> Memory:
    """Weights are kept in 32 bits also where arithmetic is done in 16."""
    trained = FLOAT_BYTES * sizes.trainable_parameters
    return Memory(
        weights_bytes=FLOAT_BYTES * sizes.parameters,
        gradients_bytes=trained,
        optimizer_bytes=OPTIMIZER_SLOTS[config["optimizer"]] * trained,
        activations_bytes=round(sizes.activation_bytes_per_sample * config["batch_size"]),
        process_bytes=CONTEXT_BYTES if on_gpu else PROCESS_BYTES,
    )


@dataclass(frozen=True, kw_only=True)
class Disk:
    checkpoint_bytes: int
    kept: int
    """Checkpoints there at once: the newest ones, the best one, and one being written."""
    model_bytes: int
    prepared_bytes: int
    """What is made of the dataset before the first step: its tokens, or its table."""

    @property
    def needed_bytes(self) -> int:
        return self.kept * self.checkpoint_bytes + self.model_bytes + self.prepared_bytes


def estimate_disk(config: Mapping[str, Any], sizes: Sizes, prepared_bytes: int = 0) -> Disk:
    """Only what is trained is in a checkpoint, with the optimizer's memory of it."""
    trained = FLOAT_BYTES * sizes.trainable_parameters
    has_best = config["validation_split"] > 0
    return Disk(
        checkpoint_bytes=trained * (1 + OPTIMIZER_SLOTS[config["optimizer"]]),
        kept=config["keep_checkpoints"] + has_best + 1,
        model_bytes=FLOAT_BYTES * sizes.parameters,
        prepared_bytes=prepared_bytes,
    )
