"""Why a training is slow, or does not learn: recorded facts in, sentences with their numbers out.

Standard library only. Every rule is a pure function of Facts that answers a Finding, or None
where the evidence does not reach; the bounds stand beside the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median
from typing import Any

LEAST_STEPS = 20  # fewer say little of a mean
LEAST_EPOCHS = 4
LEAST_READINGS = 10


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`level` is `warning` (it costs the result) or `note` (it costs time)."""

    code: str
    level: str
    sentence: str
    evidence: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was recorded of one session; empty or None is what was not recorded."""

    config: dict[str, Any]
    epochs: Sequence[dict[str, Any]] = ()
    """In order: {epoch, loss, accuracy, val_loss, val_accuracy, extra}."""
    loss: Sequence[float] = ()
    """Loss of each step, or where there are many the largest of each bucket of steps."""
    seconds: dict[str, Sequence[float]] = field(default_factory=dict)
    """Of a step, for each of PARTS that was measured."""
    checkpoint_seconds: float | None = None
    not_finite: tuple[str, int] | None = None
    """The first value that was no number: its series and its step."""
    confusion: dict[str, Any] | None = None
    """{classes, confusion}: rows are true classes, columns predicted ones."""
    device: str = ""
    gpu_count: int = 0
    gpu_busy_percent: Sequence[float] = ()
    """Readings of its GPU while it trained."""


PARTS = ("data_seconds", "compute_seconds", "optimizer_seconds")


def diagnose(facts: Facts) -> list[Finding]:
    """What stands out, warnings first; empty where nothing does."""
    found = [finding for rule in RULES if (finding := rule(facts)) is not None]
    return sorted(found, key=lambda one: one.level != "warning")


def split_time(facts: Facts) -> dict[str, float] | None:
    """Mean seconds of a step for each part that was measured; None before any was."""
    parts = {name: mean(facts.seconds[name]) for name in PARTS if facts.seconds.get(name)}
    return parts or None


# ── where the time goes ──────────────────────────────────────────────────────────────

DATA_SHARE = 0.2
EPOCH_END_SHARE = 0.3
IDLE_GPU_PERCENT = 50.0


def waits_for_data(facts: Facts) -> Finding | None:
    parts = split_time(facts)
    if parts is None or len(facts.seconds.get("data_seconds", ())) < LEAST_STEPS:
        return None
    data, whole = parts.get("data_seconds", 0.0), sum(parts.values())
    if not whole or data / whole < DATA_SHARE:
        return None
    who = "The GPU" if facts.device.startswith("cuda") else "Computing"
    return Finding(
        code="waits_for_data",
        level="note",
        sentence=f"{who} waited for data {_percent(data / whole)} of the time"
        f" ({_ms(data)} of the {_ms(whole)} of a step): try {_larger_batch(facts)}.",
        evidence={"share": data / whole, **parts},
    )


def spends_on_epoch_ends(facts: Facts) -> Finding | None:
    """Validation and checkpoints, against the epoch that they belong to."""
    measured = [row["extra"] for row in facts.epochs if "validation_seconds" in row["extra"]]
    whole = mean(extra["duration_seconds"] for extra in measured) if measured else 0.0
    if not whole:
        return None
    validation = mean(extra["validation_seconds"] for extra in measured)
    saving = facts.checkpoint_seconds or 0.0
    share = (validation + saving) / (whole + saving)
    if share < EPOCH_END_SHARE:
        return None
    if validation >= saving:
        mend = f"try a smaller validation_split than {facts.config['validation_split']:g}"
    else:
        mend = "keep the runs (RUNS_DIR) on a faster disk"
    return Finding(
        code="spends_on_epoch_ends",
        level="note",
        sentence=f"Validation ({_ms(validation)}) and the checkpoint ({_ms(saving)}) take"
        f" {_percent(share)} of an epoch: {mend}.",
        evidence={"share": share, "validation_seconds": validation, "checkpoint_seconds": saving},
    )


def leaves_gpu_idle(facts: Facts) -> Finding | None:
    readings = facts.gpu_busy_percent
    if not facts.device.startswith("cuda") or len(readings) < LEAST_READINGS:
        return None
    busy = mean(readings)
    if busy >= IDLE_GPU_PERCENT:
        return None
    return Finding(
        code="leaves_gpu_idle",
        level="note",
        sentence=f"The GPU was busy {busy:.0f} % of the time (mean of {len(readings)} readings):"
        f" it has room for larger steps; try {_larger_batch(facts)}.",
        evidence={"gpu_busy_percent": busy, "readings": len(readings)},
    )


def leaves_gpu_unused(facts: Facts) -> Finding | None:
    if facts.device != "cpu" or not facts.gpu_count or facts.config.get("device") != "cpu":
        return None
    gpus = "a GPU" if facts.gpu_count == 1 else f"{facts.gpu_count} GPUs"
    return Finding(
        code="leaves_gpu_unused",
        level="note",
        sentence=f"It trains on the CPU of a machine with {gpus}: try device=auto.",
        evidence={"device": facts.device, "gpu_count": facts.gpu_count},
    )


def _larger_batch(facts: Facts) -> str:
    return f"batch_size={2 * facts.config['batch_size']}"


# ── how it learns ────────────────────────────────────────────────────────────────────

NOTABLE = 0.05  # a change of loss that is more than noise
COURSE = 0.6  # of the epochs go the same way
SWING = 0.2
LEAST_SWINGS = 6
SPIKE = 3.0  # times the median of the steps around
WINDOW = 25
LEAST_SPIKES = 3
RISE = 1.5
FLAT = 0.005
PATIENCE = 5
MAJORITY_MARGIN = 0.01
IMBALANCE = 1.5  # times the share that the largest class would have if all were alike
SAME_ANSWER = 0.98


def left_the_numbers(facts: Facts) -> Finding | None:
    if facts.not_finite is None:
        return None
    what, step = facts.not_finite
    rate = facts.config["learning_rate"]
    also = " and precision=fp32" if facts.config.get("precision") == "fp16" else ""
    return Finding(
        code="left_the_numbers",
        level="warning",
        sentence=f"{_words(what)} was no longer a number at step {step:,}:"
        f" try learning_rate={rate / 10:g} (it was {rate:g}){also}.",
        evidence={"series": what, "step": step, "learning_rate": rate},
    )


def steps_too_far(facts: Facts) -> Finding | None:
    """Learning rate too high: the loss jumps, or ends far above where it had been."""
    if facts.not_finite is not None or len(facts.loss) < 2 * WINDOW:
        return None
    rate = facts.config["learning_rate"]
    lowest, last = _lowest_and_last(facts.loss)
    if lowest > 0 and last > RISE * lowest:
        return Finding(
            code="steps_too_far",
            level="warning",
            sentence=f"The loss had been {lowest:.3g} and rose to {last:.3g}: the steps are too"
            f" large; try learning_rate={rate / 3:.2g} (it is {rate:g}).",
            evidence={"lowest_loss": lowest, "last_loss": last, "learning_rate": rate},
        )
    spikes = count_spikes(facts.loss)
    if spikes < LEAST_SPIKES:
        return None
    return Finding(
        code="loss_spikes",
        level="note",
        sentence=f"The loss jumped above {SPIKE:g} times its neighbours {spikes} times: try"
        f" learning_rate={rate / 3:.2g} (it is {rate:g}), or a smaller max_grad_norm.",
        evidence={"spikes": spikes, "learning_rate": rate},
    )


def count_spikes(loss: Sequence[float]) -> int:
    """Steps whose loss is above SPIKE times the median of the WINDOW steps before them."""
    return sum(
        loss[at] > SPIKE * median(loss[at - WINDOW : at])
        for at in range(WINDOW, len(loss))
        if median(loss[at - WINDOW : at]) > 0
    )


def overfits(facts: Facts) -> Finding | None:
    rows = [row for row in facts.epochs if None not in (row["loss"], row["val_loss"])]
    if len(rows) < LEAST_EPOCHS:
        return None
    best, last = min(rows, key=lambda row: row["val_loss"]), rows[-1]
    since = [row for row in rows if row["epoch"] >= best["epoch"]]
    worse = last["val_loss"] > (1 + NOTABLE) * best["val_loss"]
    better = last["loss"] < (1 - NOTABLE) * best["loss"]
    # A loss that swings has a best epoch, too: only a course in two directions tells.
    is_course = _rises(since, "val_loss") >= COURSE and _rises(since, "loss") <= 1 - COURSE
    if len(since) <= 3 or not (worse and better and is_course):
        return None
    return Finding(
        code="overfits",
        level="warning",
        sentence=f"It learns by heart since epoch {best['epoch']}: val_loss rose from"
        f" {best['val_loss']:.3g} to {last['val_loss']:.3g} while loss fell from"
        f" {best['loss']:.3g} to {last['loss']:.3g}. The model keeps the weights of epoch"
        f" {best['epoch']}; try {_against_overfitting(facts.config)}.",
        evidence={
            "best_epoch": best["epoch"],
            "best_val_loss": best["val_loss"],
            "val_loss": last["val_loss"],
            "loss_then": best["loss"],
            "loss": last["loss"],
        },
    )


def _rises(rows: Sequence[dict[str, Any]], key: str) -> float:
    """The share of epochs that rose above the one before."""
    return mean(after[key] > before[key] for before, after in pairwise(rows)) if rows[1:] else 0.0


def swings(facts: Facts) -> Finding | None:
    """Learning rate too high, seen from epoch to epoch."""
    values = [row["val_loss"] for row in facts.epochs if row["val_loss"] is not None]
    recent = values[-LEAST_SWINGS - 1 :]
    if facts.not_finite is not None or len(recent) <= LEAST_SWINGS or mean(recent) <= 0:
        return None
    change = mean(abs(after - before) for before, after in pairwise(recent)) / mean(recent)
    rises = sum(after > before for before, after in pairwise(recent))
    if change < SWING or not 1 < rises < LEAST_SWINGS - 1:
        return None
    rate = facts.config["learning_rate"]
    return Finding(
        code="swings",
        level="note",
        sentence=f"val_loss swings by {_percent(change)} from epoch to epoch, between"
        f" {min(recent):.3g} and {max(recent):.3g} in the last {len(recent)}: try"
        f" learning_rate={rate / 3:.2g} (it is {rate:g}), or scheduler=cosine.",
        evidence={"change": change, "lowest": min(recent), "highest": max(recent)},
    )


def _against_overfitting(config: dict[str, Any]) -> str:
    ways = []
    if config.get("early_stopping_patience") is None:
        ways.append("early_stopping_patience=3 (saves the time)")
    if config.get("dropout", 1) < 0.5:
        ways.append(f"dropout={min(0.5, config['dropout'] + 0.2):g}")
    if not config["weight_decay"]:
        ways.append("weight_decay=0.01")
    return ", ".join([*ways, "more data"])


def learns_too_slowly(facts: Facts) -> Finding | None:
    """Learning rate too small: an even fall that hardly gets anywhere."""
    losses = [row["loss"] for row in facts.epochs if row["loss"] is not None]
    if len(losses) < LEAST_EPOCHS or losses[0] <= 0:
        return None
    fall = losses[0] - losses[-1]
    falls = sum(after < before for before, after in pairwise(losses))
    second_half = losses[len(losses) // 2] - losses[-1]
    is_even = falls == len(losses) - 1 and second_half > 0.3 * fall
    if not is_even or not FLAT < fall / losses[0] < 2 * NOTABLE:
        return None
    rate = facts.config["learning_rate"]
    return Finding(
        code="learns_too_slowly",
        level="note",
        sentence=f"The loss falls evenly but slowly, from {losses[0]:.3g} to {losses[-1]:.3g} in"
        f" {len(losses)} epochs: try learning_rate={10 * rate:g} (it is {rate:g}).",
        evidence={"first_loss": losses[0], "loss": losses[-1], "learning_rate": rate},
    )


def stands_still(facts: Facts) -> Finding | None:
    """A plateau: nothing of note in the last PATIENCE epochs."""
    key = "val_loss" if any(row["val_loss"] is not None for row in facts.epochs) else "loss"
    rows = [row for row in facts.epochs if row[key] is not None]
    if len(rows) <= PATIENCE:
        return None
    recent = [row[key] for row in rows[-PATIENCE - 1 :]]
    middle = mean(recent)
    if middle <= 0 or (max(recent) - min(recent)) / middle > FLAT:
        return None
    since = rows[-PATIENCE - 1]["epoch"]
    return Finding(
        code="stands_still",
        level="note",
        sentence=f"Nothing has changed since epoch {since}: {key} stays at {middle:.3g}. Stop it"
        " here, or try a larger network, another learning_rate, or other columns.",
        evidence={"since_epoch": since, "series": key, "mean": middle},
    )


def answers_one_class(facts: Facts) -> Finding | None:
    """Class imbalance: as good as naming the largest class every time, and doing so."""
    if facts.confusion is None:
        return None
    classes, table = facts.confusion["classes"], facts.confusion["confusion"]
    total = sum(map(sum, table))
    if not total or len(classes) < 2:
        return None
    shares = [sum(row) / total for row in table]
    answered = [sum(column) / total for column in zip(*table, strict=True)]
    largest = shares.index(max(shares))
    accuracy = sum(row[place] for place, row in enumerate(table)) / total
    is_constant = answered[largest] >= SAME_ANSWER
    if not is_constant or abs(accuracy - shares[largest]) > MAJORITY_MARGIN:
        return None
    is_imbalanced = shares[largest] > IMBALANCE / len(classes)
    return Finding(
        code="answers_one_class",
        level="warning",
        sentence=f"It answers {classes[largest]!r} for {_percent(answered[largest])} of the"
        f" validation samples, and {_percent(shares[largest])} of them are: its accuracy of"
        f" {_percent(accuracy)} says nothing. {_against_one_answer(facts.config, is_imbalanced)}.",
        evidence={
            "class": classes[largest],
            "share": shares[largest],
            "answered": answered[largest],
            "accuracy": accuracy,
        },
    )


def _against_one_answer(config: dict[str, Any], is_imbalanced: bool) -> str:
    if not is_imbalanced:
        return "Try another learning_rate, more epochs, or other columns"
    if config.get("class_weights") == "none":
        return "Try class_weights=balanced, or more samples of the others"
    return "Try more samples of the others"


RULES: tuple[Callable[[Facts], Finding | None], ...] = (
    left_the_numbers,
    steps_too_far,
    overfits,
    swings,
    answers_one_class,
    learns_too_slowly,
    stands_still,
    waits_for_data,
    spends_on_epoch_ends,
    leaves_gpu_idle,
    leaves_gpu_unused,
)


def _lowest_and_last(loss: Sequence[float]) -> tuple[float, float]:
    """Medians of windows: the lowest of all, and the last."""
    windows = [median(loss[at : at + WINDOW]) for at in range(0, len(loss) - WINDOW + 1, WINDOW)]
    return min(windows), median(loss[-WINDOW:])


def _words(series: str) -> str:
    return {"loss": "The loss", "grad_norm": "The gradient"}.get(series, f"The series {series}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
