"""Lists as CSV (RFC 4180), for whoever asks with `Accept: text/csv`."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from mlserver.api.json import dumps

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula (OWASP, CSV injection); such a text gets a quote."""


class CSVRenderer(BaseRenderer):
    """A row an item; what lies in an object gets a column of its own, `metrics.val_loss`."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        rows = [dict(_flat(row)) for row in data["results"]]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(map(_cell, columns))
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
        return text.getvalue().encode()


class Negotiation(DefaultContentNegotiation):
    """Every list can be had as CSV, too; nothing else can."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        view = (request.parser_context or {}).get("view")
        if getattr(view, "action", None) == "list":
            renderers = [*renderers, CSVRenderer()]
        return super().select_renderer(request, renderers, format_suffix)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        path = f"{prefix}{name}"
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{path}.")
        else:
            yield path, inner


def _cell(value: Any) -> str:
    """As JSON writes it, but texts without quotation marks, and null as nothing."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else dumps(value).decode()
    if not isinstance(value, str):
        return text.strip('"')  # times and identifiers are texts in JSON
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
