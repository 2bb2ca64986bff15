"""Every page as a command: the curl line that does what the page does."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest


def curl(
    request: HttpRequest,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    options: str = "",
    method: str = "",
) -> str:
    """`$KEY` stands for the reader's key: a page never shows one."""
    start = " ".join(filter(None, ["curl", options, f"-X {method}" if method else ""]))
    address = shlex.quote(f"{request.scheme}://{request.get_host()}{path}")
    parts = [f"{start} {address}", '-H "Authorization: Bearer $KEY"']
    if body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    return " \\\n  ".join(parts)
