"""The base model of a training: a version on this server, else a repository of the hub."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings

from ml.config import TextConfig
from mlserver.lib.errors import FieldError, Invalid, NotFound
from models_registry.models import ModelVersion
from models_registry.services import find_version

# As huggingface_hub takes it; `name@2` is always a version of this server.
HUB_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")


def find_base(name: str) -> ModelVersion | None:
    """The version of this server that is meant; None: the hub is to be asked.

    Raises Invalid where there is neither, or where the version is nothing to start from.
    """
    try:
        version = find_version(name)
    except NotFound as error:
        if settings.HF_HUB_OFFLINE or not HUB_NAME.fullmatch(name):
            raise _not_found(name, error.detail) from None
        return None
    _check_folder(version)
    return version


def check_base(config: TextConfig) -> None:
    """Refuse a base model that cannot be had, before anything waits in the queue."""
    if config.base_model is None:
        return
    if not isinstance(config.base_model, str):
        raise _invalid("base_model must be the name of a model", None)
    find_base(config.base_model)


def describe_base(config: TextConfig) -> str:
    """The model by its version, so that a later one does not take its place; empty: none."""
    if not isinstance(config.base_model, str):
        return ""
    version = find_base(config.base_model)
    return config.base_model if version is None else str(version)


def is_from_hub(base: str) -> bool:
    """Of what describe_base gave: versions of this server have a number."""
    return bool(base) and "@" not in base


def locate_base(name: str) -> str | dict[str, Any]:
    """What config.json holds in place of the name."""
    version = find_base(name)
    if version is None:
        return name
    return {
        "path": str(version.folder),
        "name": version.model.name,
        "version": version.number,
    }


def _check_folder(version: ModelVersion) -> None:
    """Names of files are enough; the trainer, which may be asked to open them, looks closer."""
    names = [file["path"] for file in version.files]
    lacking = []
    if "config.json" not in names:
        lacking.append("config.json")
    if not any(name.endswith(".safetensors") for name in names):
        lacking.append("weights as safetensors")
    if not any(name.startswith("tokenizer") or name.endswith(".model") for name in names):
        lacking.append("a tokenizer")
    if lacking:
        raise _invalid(
            f"base_model {version} is no language model to start from: it lacks "
            f"{' and '.join(lacking)}; register what save_pretrained() of model and tokenizer "
            "wrote",
            str(version),
        )


def _not_found(name: str, why: str) -> Invalid:
    sentence = (
        f"base_model {name!r} is not here and cannot be fetched. {why.rstrip('.')}. "
        "Register its Hugging Face folder (config.json, safetensors, tokenizer) under that name: "
        "Models, Upload, or POST /api/v1/models/ with name and file"
    )
    if not settings.HF_HUB_OFFLINE:
        sentence += f"; {name!r} is no name of the Hugging Face hub either"
    return _invalid(sentence, name, code="base_model_not_found")


def _invalid(sentence: str, value: str | None, code: str = "invalid_config") -> Invalid:
    error = FieldError(field="base_model", message=sentence, code=code, value=value)
    return Invalid(f"{sentence}.", code=code, errors=[error])
