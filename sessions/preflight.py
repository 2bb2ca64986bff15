"""What can be known of a training before it starts: whether it fits, how long, when it begins."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from datasets.models import DatasetVersion
from datasets.services import find_version
from jobs.holds import list_holds
from jobs.models import Job
from jobs.services import count_free_seats, place_in_queue
from ml.config import CausalConfig, TrainingConfig
from ml.estimate import (
    Sizes,
    Steps,
    count_steps,
    count_steps_of,
    estimate_disk,
    estimate_memory,
    network_sizes,
)
from ml.text_fields import find_fields
from mlserver.lib.children import ChildTimedOut, run_ml
from mlserver.lib.errors import AppError, FieldError, Invalid, NotFound
from models_registry.names import check_name
from sessions.devices import Device, find_device
from sessions.pace import estimate_time
from sessions.run_config import run_config
from sessions.services import MINIMUM_FREE_BYTES, ConfigInvalid, check_config, check_dataset

SAMPLES = 5
LOOK_SECONDS = 60
LOOK_BYTES = 8 * 2**30
TOO_LARGE = (
    f"The dataset is too large to be opened within {LOOK_SECONDS} seconds, so the sizes are"
    " reckoned; the training itself takes the time that it needs."
)
FLOAT32_BYTES = 4
TIGHT = 0.9  # of what is free: estimates are not that exact


def preflight(
    config: dict[str, Any], *, owner: User, name: str = "", priority: int = 0, look: bool = True
) -> dict[str, Any]:
    """Everything that a person wants to know before they start it; starts nothing.

    With `look` a child opens the data and the model; without it, arithmetic only, for a page
    that follows what is typed. Raises ConfigInvalid with every field that is wrong, and what
    the child says of data that cannot be learned from; data that takes too long to open
    is a warning.
    """
    parsed, version = check_everything(config, name)
    complete = {**parsed.to_dict(), "dataset": str(version)}
    seen, too_large = None, []
    if look and learns_in_steps(complete):
        try:
            seen = look_at(complete, version)
        except ChildTimedOut:
            too_large = [TOO_LARGE]
    sizes, no_sizes = _sizes(complete, version, seen)
    device = find_device(complete.get("device", "cpu"))  # without steps there is no GPU
    steps = _count_steps(parsed, version, seen)
    report: dict[str, Any] = {
        "config": complete,
        "dataset": _describe_dataset(version, seen),
        "device": asdict(device),
        "steps": steps and asdict(steps),
        "samples": seen and seen["samples"],
        "memory": _memory(complete, sizes, no_sizes, device),
        "disk": _disk(complete, version, sizes, no_sizes),
        "time": asdict(estimate_time(complete, version, device.kind)),
        "queue": describe_queue(owner, priority),
    }
    warnings = [*(seen["warnings"] if seen else too_large), *_warn(report)]
    fits = report["memory"]["fits"] is not False and report["disk"]["fits"] is not False
    return {"fits": fits, "warnings": warnings, **report}


def check_everything(config: dict[str, Any], name: str) -> tuple[TrainingConfig, DatasetVersion]:
    """Raises ConfigInvalid with all that is wrong at once, in whichever part it is."""
    errors: list[FieldError] = []
    parsed = version = None
    try:
        parsed = check_config(config)
    except Invalid as error:
        errors += error.errors
    try:
        if isinstance(config.get("dataset"), str):
            version = find_version(config["dataset"])
    except NotFound as error:
        errors.append(FieldError(field="dataset", message=error.detail, code=error.code))
    try:
        if parsed is not None and version is not None:
            check_dataset(parsed, version)
    except Invalid as error:
        errors += error.errors
    try:
        if name:
            check_name(name)
    except AppError as error:
        errors += error.errors or [FieldError(field="name", message=error.detail, code=error.code)]
    if errors or parsed is None or version is None:
        raise ConfigInvalid("; ".join(each.message for each in errors), errors=errors)
    return parsed, version


def learns_in_steps(config: Mapping[str, Any]) -> bool:
    """Not a classical model, which is made in one go on the CPU."""
    return "batch_size" in config


def look_at(config: Mapping[str, Any], version: DatasetVersion) -> dict[str, Any]:
    """What ml.train.look says of it. Raises ChildRefused or a kind of ChildFailed."""
    payload = {"config": run_config("", config, version), "samples": SAMPLES}
    with tempfile.TemporaryDirectory(prefix="look-") as scratch:
        found: dict[str, Any] = run_ml(
            "look",
            {**payload, "scratch": scratch},
            timeout_seconds=LOOK_SECONDS,
            memory_bytes=LOOK_BYTES,
        )
    return found


def _sizes(
    config: Mapping[str, Any], version: DatasetVersion, seen: dict[str, Any] | None
) -> tuple[Sizes | None, str | None]:
    """Measured by the child; else reckoned, where the configuration and the schema say enough."""
    if seen is not None:
        names = ("parameters", "trainable_parameters", "activation_bytes_per_sample")
        return Sizes(**{name: seen[name] for name in names}), None
    if not learns_in_steps(config):
        return None, "The size of a classical model follows from what it learns."
    if config["recipe"] != "network":
        return None, "The model's size is known when the data is looked at."
    shape = _input_shape(config, version)
    if shape is None:
        return None, "Columns of text become as many inputs as they have values: look at the data."
    return network_sizes(config, shape, len(version.schema.get("classes") or [0])), None


def _input_shape(config: Mapping[str, Any], version: DatasetVersion) -> list[int] | None:
    if version.kind == "image":
        height, width, *channels = version.dimensions[1:]
        image = [*(channels or [1]), height, width]
        is_flat = config["architecture"] == "mlp"
        return [image[0] * image[1] * image[2]] if is_flat else image
    target = config.get("target") or version.schema.get("target")
    types = [one["type"] for one in version.schema.get("columns", []) if one["name"] != target]
    return None if "string" in types else [len(types)]


def _count_steps(
    config: TrainingConfig, version: DatasetVersion, seen: dict[str, Any] | None
) -> Steps | None:
    """None where only a look at the data can tell."""
    complete = config.to_dict()
    if seen is not None:
        return count_steps_of(complete, seen["training_samples"], seen["validation_samples"])
    if isinstance(config, CausalConfig) and config.packing:
        columns = [column["name"] for column in version.schema.get("columns", [])]
        if find_fields(config, columns).text is not None:
            return None
    return count_steps(complete, version.sample_count)


def _describe_dataset(version: DatasetVersion, seen: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": str(version),
        "kind": version.kind,
        "samples": version.sample_count,
        "description": seen and seen["description"],
    }


def _memory(
    config: Mapping[str, Any], sizes: Sizes | None, reason: str | None, device: Device
) -> dict[str, Any]:
    """Where the model is: on the GPU, or in the machine's memory."""
    known = {"free_bytes": device.free_bytes, "total_bytes": device.total_bytes}
    if sizes is None:
        return {"needed_bytes": None, "parts": None, "fits": None, "reason": reason, **known}
    memory = estimate_memory(config, sizes, on_gpu=device.kind == "cuda")
    fits = None if device.free_bytes is None else memory.needed_bytes <= device.free_bytes
    return {
        "needed_bytes": memory.needed_bytes,
        "parts": {**asdict(sizes), **asdict(memory)},
        "fits": fits,
        "reason": device.reason,
        **known,
    }


def _disk(
    config: Mapping[str, Any], version: DatasetVersion, sizes: Sizes | None, reason: str | None
) -> dict[str, Any]:
    free = shutil.disk_usage(settings.RUNS_DIR).free
    if sizes is None:
        fits = None if free >= MINIMUM_FREE_BYTES else False
        return {"needed_bytes": None, "free_bytes": free, "fits": fits, "reason": reason}
    disk = estimate_disk(config, sizes, _prepared_bytes(version))
    fits = disk.needed_bytes + MINIMUM_FREE_BYTES <= free
    known = {"needed_bytes": disk.needed_bytes, "free_bytes": free, "fits": fits, "reason": None}
    return {**known, **asdict(disk)}


def _prepared_bytes(version: DatasetVersion) -> int:
    """What a recipe lays aside in the run directory."""
    match version.kind:
        case "image":
            return 0  # they are read where they lie
        case "table":
            return version.sample_count * len(version.schema["columns"]) * FLOAT32_BYTES
        case _:  # a token of four bytes stands for about four letters
            return version.size_bytes


def describe_queue(owner: User, priority: int) -> dict[str, Any]:
    """Where it would stand if it were submitted now."""
    place = place_in_queue("train", owner=owner, priority=priority)
    running = Job.objects.filter(kind="train").running().count()
    holds = [hold.reason for hold in list_holds("train")]
    free_seats = max(0, count_free_seats("train"))
    return {
        "place": place,
        "running": running,
        "free_seats": free_seats,
        "held": holds,
        "starts_at_once": not holds and place <= free_seats,
    }


def _warn(report: Mapping[str, Any]) -> list[str]:
    config, memory, disk = report["config"], report["memory"], report["disk"]
    samples = report["steps"] and report["steps"]["training_samples"]
    found = []
    if report["device"]["kind"] == "cuda" and report["device"]["is_missing"]:
        found.append(f"device {config['device']}: {report['device']['reason']} It would fail.")
    if memory["fits"] is False:
        found.append(
            f"It needs about {_gib(memory['needed_bytes'])} of memory and"
            f" {_gib(memory['free_bytes'])} are free: try a smaller batch_size or model."
        )
    elif memory["fits"] and memory["needed_bytes"] > TIGHT * memory["free_bytes"]:
        found.append(f"Memory is tight: {_gib(memory['free_bytes'])} are free.")
    if disk["fits"] is False:
        found.append(
            f"Only {_gib(disk['free_bytes'])} are free where runs are kept: delete something,"
            " or keep fewer checkpoints (keep_checkpoints)."
        )
    if samples is not None and config.get("batch_size", 0) > samples:
        found.append(
            f"batch_size {config['batch_size']} is more than the {samples} samples to"
            " learn from: every epoch is one step."
        )
    return found


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
