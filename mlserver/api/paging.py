"""Lists: `{results, total, skip, limit}`, with `ordering`, `search` and exact filters by field.

A view declares what may be asked (`filter_fields`, `search_fields`, `ordering_fields`);
anything else in the query is refused, because a misspelt filter would show too much.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import BooleanField, Field, Model, Q, QuerySet
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from mlserver.lib.errors import FieldError, Invalid
from mlserver.lib.suggestions import hint

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_SKIP = 10**12
MOST_VALUES = 50
PAGING = ("skip", "limit")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

Rows = QuerySet[Any]


class SkipLimitPagination(BasePagination):
    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.skip = read_whole_number(request, "skip", 0, 0, MAX_SKIP)
        self.limit = read_whole_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        self.total = queryset.count() if isinstance(queryset, QuerySet) else len(queryset)
        return list(queryset[self.skip : self.skip + self.limit])

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {"results": data, "total": self.total, "skip": self.skip, "limit": self.limit}
        )

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        number = {"type": "integer"}
        return {
            "type": "object",
            "required": ["results", "total", "skip", "limit"],
            "properties": {
                "results": schema,
                "total": {**number, "description": "All that match, on every page.", "example": 1},
                "skip": {**number, "example": 0},
                "limit": {**number, "example": DEFAULT_LIMIT},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            _parameter(
                "skip",
                "How many to leave out.",
                {"type": "integer", "minimum": 0, "maximum": MAX_SKIP, "default": 0},
            ),
            _parameter(
                "limit",
                "How many to return at most.",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            ),
        ]


class DeclaredFilters(BaseFilterBackend):
    """`filter_fields` and `ordering_fields`: {public name: ORM path}; `ordering`: the public
    name that holds when none is asked; `search_fields`: ORM paths; `other_parameters`: names
    that the view reads itself."""

    def filter_queryset(self, request: Request, queryset: Rows, view: Any) -> Rows:
        if _is_one(view):
            return queryset
        refuse_unknown(request, self.known(view))
        rows = queryset
        for name, path in _paths(view, "filter_fields").items():
            if values := request.query_params.getlist(name):
                rows = rows.filter(_matching(queryset.model, name, path, values))
        return self._order(request, self._search(request, rows, view), view)

    def known(self, view: Any) -> list[str]:
        """Every parameter that the view's list understands."""
        extra = [
            name
            for name, declared in (("search", "search_fields"), ("ordering", "ordering_fields"))
            if getattr(view, declared, ())
        ]
        others = getattr(view, "other_parameters", ())
        return [*PAGING, *extra, *_paths(view, "filter_fields"), *others]

    def _search(self, request: Request, rows: Rows, view: Any) -> Rows:
        fields: Sequence[str] = getattr(view, "search_fields", ())
        words = request.query_params.get("search", "").split() if fields else []
        for word in words[:10]:
            found = Q()
            for field in fields:
                found |= Q(**{f"{field}__icontains": word})
            rows = rows.filter(found)
        return rows

    def _order(self, request: Request, rows: Rows, view: Any) -> Rows:
        paths = _paths(view, "ordering_fields")
        asked = request.query_params.get("ordering", "") if paths else ""
        keys = [part.strip() for part in asked.split(",") if part.strip()]
        if not keys:
            default = getattr(view, "ordering", None) or []
            keys = [default] if isinstance(default, str) else list(default)
        if not keys:
            return rows
        ordered = [_order_key(key, paths) for key in keys]
        return rows.order_by(*ordered, "pk")  # a tie must not shuffle between two pages

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        model = getattr(getattr(view, "queryset", None), "model", None)
        described = [
            _parameter(name, f"Only those whose {name} is this.", _schema(model, path))
            for name, path in _paths(view, "filter_fields").items()
        ]
        if getattr(view, "search_fields", ()):
            described.append(_parameter("search", "Words to look for.", {"type": "string"}))
        if names := list(_paths(view, "ordering_fields")):
            sentence = (
                f"One or more of {', '.join(names)}, separated by commas; `-` turns it round."
            )
            described.append(_parameter("ordering", sentence, {"type": "string"}))
        return described


def read_whole_number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    plain = text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 20
    if not plain:
        raise bad_parameter(name, f"{name} must be a whole number, got '{text[:50]}'", text)
    if not low <= int(text) <= high:
        raise bad_parameter(name, f"{name} must be between {low} and {high}, got {text}", text)
    return int(text)


def refuse_unknown(request: Request, known: Iterable[str]) -> None:
    names = list(known)
    for name in request.query_params:
        if name not in names:
            raise bad_parameter(
                name,
                f"unknown parameter '{name[:50]}'{hint(name, names)}",
                request.query_params[name],
                code="unknown",
            )


def bad_parameter(name: str, message: str, value: Any, code: str = "invalid") -> Invalid:
    return Invalid(
        message[:1].upper() + message[1:] + ("" if message.endswith("?") else "."),
        errors=[FieldError(field=name, message=message, code=code, value=value)],
    )


def _is_one(view: Any) -> bool:
    """DRF filters also before it fetches one thing by its id."""
    return (view.lookup_url_kwarg or view.lookup_field) in view.kwargs


def _paths(view: Any, attribute: str) -> Mapping[str, str]:
    declared = getattr(view, attribute, None) or {}
    return declared if isinstance(declared, Mapping) else {name: name for name in declared}


def _order_key(key: str, paths: Mapping[str, str]) -> str:
    sign, name = ("-", key[1:]) if key.startswith("-") else ("", key)
    if name not in paths:
        message = f"cannot order by '{name[:50]}'{hint(name, paths)}"
        raise bad_parameter("ordering", message, key)
    return sign + paths[name]


def _matching(model: type[Model], name: str, path: str, values: Sequence[str]) -> Q:
    """A parameter given several times matches any of its values."""
    if len(values) > MOST_VALUES:
        raise bad_parameter(name, f"{name} may be given {MOST_VALUES} times at most", len(values))
    field = _final_field(model, path)
    found = Q()
    for value in values:
        # Not `__in`: only `exact` copes with a number that is too large for the database.
        found |= Q(**{path: _convert(field, name, value)})
    return found


def _convert(field: "Field[Any, Any]", name: str, text: str) -> Any:
    if isinstance(field, BooleanField):
        if text.lower() not in BOOLEANS:
            raise bad_parameter(name, f"{name} must be true or false, got '{text[:50]}'", text)
        return BOOLEANS[text.lower()]
    choices = [str(value) for value, _ in field.flatchoices]
    if choices and text not in choices:
        message = f"{name} must be one of {', '.join(choices)}, got '{text[:50]}'"
        raise bad_parameter(name, message, text)
    try:
        return field.to_python(text)
    except (ValidationError, ValueError, OverflowError):
        message = f"{name} cannot be '{text[:50]}'"
        raise bad_parameter(name, message, text) from None


def _final_field(model: type[Model], path: str) -> Any:
    field: Any = None
    owner: Any = model
    for part in path.split("__"):
        field = owner._meta.pk if part == "pk" else owner._meta.get_field(part)
        owner = getattr(field, "related_model", None)
    return field.target_field if owner is not None else field


def _schema(model: type[Model] | None, path: str) -> dict[str, Any]:
    if model is None:
        return {"type": "string"}
    field = _final_field(model, path)
    if isinstance(field, BooleanField):
        return {"type": "boolean"}
    if field.flatchoices:
        return {"type": "string", "enum": [str(value) for value, _ in field.flatchoices]}
    return {"type": "integer" if "Integer" in field.get_internal_type() else "string"}


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }
