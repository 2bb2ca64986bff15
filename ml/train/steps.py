"""What a step is made of: device, precision, optimizer, learning rate, loss, order of the rows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ml.config import GradientConfig
from ml.train.errors import TrainingFailed

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SGD_MOMENTUM = 0.9
THREADS_PAY_FROM = 100_000_000
"""Multiply-adds of a batch; less is done by one thread about as fast as by two."""


def choose_device(wanted: str, rank: int = 0) -> torch.device:
    """Several processes have a GPU each: the first the first."""
    usable = torch.cuda.is_available()
    if wanted == "auto":
        wanted = "cuda" if usable else "cpu"
    if wanted == "cpu":
        return torch.device("cpu")
    index = int(wanted.partition(":")[2] or rank)
    count = torch.cuda.device_count() if usable else 0
    if index >= count:
        which = f"device {wanted}" if rank == 0 else f"process {rank + 1} on a GPU of its own"
        sentence = f"{which}: this machine has {count} usable GPUs; choose auto or cpu."
        raise TrainingFailed("spec_error", sentence)
    return torch.device("cuda", index)


def choose_precision(wanted: str, device: torch.device) -> str:
    if wanted != "auto":
        return wanted
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def make_deterministic() -> None:
    """Ask for algorithms that repeat bit by bit: a resumed run must end with the same weights."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and its container's quota (cgroup 2)."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, round(int(quota) / int(period))))


def choose_threads(module: nn.Module, input_shape: list[int], batch_size: int) -> int:
    """Every CPU for a network with enough to compute, one thread for a small one.

    Threads wait for each other after every layer by spinning. For a network of
    microseconds that gains nothing on idle CPUs, and on busy ones a step took
    sixty times as long. Decided by arithmetic, not by the clock: the number of
    threads changes the last bits of sums, and a resumed run must repeat them.
    """
    work = batch_size * _multiply_adds(module, torch.zeros(1, *input_shape))
    return available_cpus() if work >= THREADS_PAY_FROM else 1


def _multiply_adds(module: nn.Module, sample: torch.Tensor) -> int:
    """Of one forward pass of one sample through a sequence of layers."""
    total = 0
    with torch.inference_mode():
        for layer in module.eval().children():
            sample = layer(sample)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                total += sample.numel() * layer.weight[0].numel()
    return total


def make_optimizer(
    config: GradientConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=SGD_MOMENTUM, weight_decay=decay)
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "nadam": torch.optim.NAdam,
    }
    return kinds[config.optimizer](parameters, lr=rate, weight_decay=decay)  # type: ignore[call-arg]


def learning_rate(config: GradientConfig, step: int, total_steps: int) -> float:
    """The rate of a step, counted from 0: a rise over the warm-up, then the schedule.

    A function of the step alone, so that a resumed run needs no scheduler state.
    """
    warmup = round(config.warmup_ratio * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    factors = {
        "none": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": 0.1 ** min(2, int(done * 3)),
    }
    return config.learning_rate * factors[config.scheduler]


def loss_of(
    name: str,
    outputs: torch.Tensor,
    targets: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Mean loss; outputs (N, output_size), targets class numbers or standardised numbers.

    `class_weights` (classes) multiply each sample's loss. The sum is divided by N all the same,
    so that the parts of a batch add up to the whole. `smoothing` (Szegedy et al. 2016) spreads
    that share of a label over all classes (cross_entropy only).
    """
    if name in ("cross_entropy", "bce"):
        losses = _class_losses(name, outputs, targets, smoothing)
        return (losses if class_weights is None else losses * class_weights[targets]).mean()
    single = outputs[:, 0]
    if name == "mae":
        return functional.l1_loss(single, targets)
    if name == "huber":
        return functional.huber_loss(single, targets)
    return functional.mse_loss(single, targets)


def _class_losses(
    name: str, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> torch.Tensor:
    if name == "cross_entropy":
        return functional.cross_entropy(
            outputs, targets, reduction="none", label_smoothing=smoothing
        )
    logits = outputs[:, 0]
    return functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")


def balanced_weights(targets: np.ndarray, class_count: int, device: torch.device) -> torch.Tensor:
    """samples / (classes × samples of the class), as scikit-learn's class_weight="balanced"."""
    counts = np.bincount(targets, minlength=class_count)
    weights = len(targets) / (class_count * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=device)


def classes_of(outputs: torch.Tensor) -> torch.Tensor:
    """The guessed class of each row; a single output is the logit of the second class."""
    return outputs.argmax(dim=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()


def generator_state(device: torch.device) -> list[torch.Tensor]:
    """What dropout draws from, to repeat a step with the same draws."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def restore_generator_state(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of that epoch: of seed and epoch alone, so any step can be found."""
    order: np.ndarray = np.random.default_rng([0, seed, epoch]).permutation(rows)
    return order
