"""The New training form, made from `ml.config.describe()`; what is valid is decided there alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml.config import DEFAULT_RECIPE, describe
from mlserver.lib.errors import FieldError
from sessions.services import ConfigInvalid

MAIN = (
    "base_model",
    "from_scratch",
    "algorithm",
    "input",
    "architecture",
    "epochs",
    "batch_size",
    "learning_rate",
    "optimizer",
    "max_length",
    "lora_rank",
    "device",
)
GIVEN = ("session", "recipe", "dataset", "target")  # drawn by hand or set by the server
FLAGS = ["false", "true"]
KEPT_AS_TYPED = ("prefix",)  # a blank at its end is meant


@dataclass
class ConfigField:
    """One input: how to draw it, what was typed, what is wrong with it."""

    name: str
    kind: str
    help: str
    default: Any
    nullable: bool
    choices: list[str] = field(default_factory=list)
    typed: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def default_text(self) -> str:
        return _text(self.default) or "none"

    @property
    def input_mode(self) -> str:
        return {"integer": "numeric", "number": "decimal"}.get(self.kind, "text")


class ConfigForm:
    """What a person typed, as fields to draw and as a configuration to submit."""

    def __init__(self, typed: Mapping[str, str]) -> None:
        self.recipes = {name: recipe["help"] for name, recipe in describe().items()}
        asked = typed.get("recipe", "").strip()
        self.recipe = asked if asked in self.recipes else DEFAULT_RECIPE
        known = _describe(self.recipe)
        self.has_target = any(one.name == "target" for one in known)
        self.fields = {one.name: one for one in known if one.name not in GIVEN}
        for one in self.fields.values():
            text = typed.get(one.name, _text(one.default))
            one.typed = text if one.name in KEPT_AS_TYPED else text.strip()
        self.dataset = typed.get("dataset", "").strip()
        self.target = typed.get("target", "").strip() if self.has_target else ""
        self.name = typed.get("name", "").strip()
        self.priority = typed.get("priority", "0").strip()
        self.errors: dict[str, list[str]] = {}

    @property
    def recipe_help(self) -> str:
        return str(self.recipes[self.recipe])

    @property
    def main(self) -> list[ConfigField]:
        return [self.fields[name] for name in MAIN if name in self.fields]

    @property
    def advanced(self) -> list[ConfigField]:
        return [one for name, one in self.fields.items() if name not in MAIN]

    @property
    def has_advanced(self) -> bool:
        """Something in the folded part differs from its default, or is wrong."""
        return any(one.errors or one.typed != _text(one.default) for one in self.advanced)

    def config(self) -> dict[str, Any]:
        """Only what differs from the defaults: short enough to read and to type."""
        config: dict[str, Any] = {"dataset": self.dataset}
        if self.recipe != DEFAULT_RECIPE:
            config["recipe"] = self.recipe
        if self.target:
            config["target"] = self.target
        for one in self.fields.values():
            if one.typed == _text(one.default) or (not one.typed and not one.nullable):
                continue
            config[one.name] = _read(one.kind, one.typed)
        return config

    def refuse(self, errors: Iterable[FieldError], sentence: str = "") -> None:
        """Hang every error under its field; what belongs to none stands above the form."""
        for error in errors:
            if error.field in self.fields:
                self.fields[error.field].errors.append(error.message)
            self.errors.setdefault(error.field or "form", []).append(error.message)
        if not self.errors and sentence:
            self.errors["form"] = [sentence]


def typed_config(config: Mapping[str, Any]) -> dict[str, str]:
    """The complete configuration of an earlier session as what a person would have typed."""
    return {name: _text(value) for name, value in config.items() if name != "session"}


def read_priority(typed: str) -> int:
    """Raises ConfigInvalid."""
    try:
        return int(typed or 0)
    except ValueError:
        message = f"priority must be a whole number, got {typed[:40]}"
        raise ConfigInvalid(
            message, errors=[FieldError(field="priority", message=message)]
        ) from None


def _describe(recipe: str) -> list[ConfigField]:
    """The fields of a recipe, but for those in which there is nothing to choose."""
    return [
        ConfigField(
            name=one["name"],
            kind=one["kind"],
            help=one["help"],
            default=one["default"],
            nullable=one["nullable"],
            choices=FLAGS if one["kind"] == "boolean" else one.get("choices", []),
        )
        for one in describe()[recipe]["fields"]
        if one.get("minimum") is None or one["minimum"] != one["maximum"]
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return FLAGS[value]
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(kind: str, typed: str) -> Any:
    """The JSON value a text stands for; a text that is none stays one, and is refused as such."""
    if not typed:
        return None
    if kind == "integers":
        return [_number(part) for part in re.split(r"[\s,]+", typed.strip("[] ")) if part]
    if kind == "names":
        return [part for part in re.split(r"[\s,]+", typed) if part]
    if kind == "boolean":
        return {"false": False, "true": True}.get(typed, typed)
    return _number(typed) if kind in ("integer", "number") else typed


def _number(typed: str) -> Any:
    for parse in (int, float):
        try:
            return parse(typed)
        except ValueError:
            continue
    return typed
