"""Fields of a configuration: declared once, with a rule and a help; read, refused and described.

Standard library only. ml.config declares the recipes with it.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ml.rules import Refused, Rule, show

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class FieldError:
    field: str
    message: str
    code: str
    value: Any = None


class ConfigError(ValueError):
    """The configuration cannot be used; `errors` names every field that is wrong."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


def setting(rule: Rule, help: str, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field; without a default it is required."""
    metadata = {"rule": rule, "help": help}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def default(kind: type[Any], name: str, value: Any) -> Any:
    """A field of a subclass that differs from its parent's in the default alone."""
    return dataclasses.field(default=value, metadata=kind.__dataclass_fields__[name].metadata)


def build(kind: type[Kind], data: dict[str, Any], prefix: str = "") -> Kind:
    """The dataclass with checked values, or ConfigError with everything that is wrong."""
    rules = {field.name: field for field in dataclasses.fields(cast(Any, kind))}
    errors = [_unknown(prefix, name, list(rules)) for name in data if name not in rules]
    values: dict[str, Any] = {}
    for name, field in rules.items():
        if name not in data:
            if field.default is dataclasses.MISSING:
                errors.append(_error(prefix + name, "is required", "required", None))
            continue
        try:
            values[name] = field.metadata["rule"].check(data[name])
        except Refused as refused:
            errors.append(_error(prefix + name, refused.message, refused.code, data[name]))
        except ConfigError as nested:
            errors.extend(nested.errors)
    if errors:
        raise ConfigError(errors)
    return kind(**values)


def describe_fields(kind: type[Any]) -> list[dict[str, Any]]:
    """Name, help, default, kind and bounds of every field, in order, as JSON."""
    fields = []
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        fields.append(
            {
                "name": field.name,
                "help": field.metadata["help"],
                "required": required,
                "default": list(default) if isinstance(default, tuple) else default,
                **cast(Rule, field.metadata["rule"]).describe(),
            }
        )
    return fields


def default_of(kind: type[Any], name: str) -> Any:
    return kind.__dataclass_fields__[name].default


def conflict(field: str, sentence: str, value: Any) -> FieldError:
    return FieldError(field=field, message=sentence, code="conflict", value=value)


def _error(field: str, message: str, code: str, value: Any) -> FieldError:
    return FieldError(field=field, message=f"{field} {message}", code=code, value=value)


def _unknown(prefix: str, name: Any, known: list[str]) -> FieldError:
    field = prefix + show(name)
    close = difflib.get_close_matches(str(name)[:100], known, n=1)
    hint = f", did you mean '{prefix}{close[0]}'?" if close else ""
    return FieldError(field=field, message=f"unknown field '{field}'{hint}", code="unknown_field")
