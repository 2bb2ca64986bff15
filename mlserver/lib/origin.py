"""Where the work at hand comes from: which request, address, key. For audit rows and log lines.

The middleware sets it for a request; in a command or a worker it is empty.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

API, PAGE, ADMIN, COMMAND = "api", "page", "admin", "command"
API_PREFIXES = ("/api/", "/v1/", "/v2/")


@dataclass
class Origin:
    """Mutable on purpose: the key is known later than the request."""

    how: str = COMMAND
    request_id: str = ""
    address: str | None = None
    key_prefix: str = ""
    person: Any = None
    """Who was let in: set at the doors, of pages and of the API."""


_current: ContextVar[Origin | None] = ContextVar("mlserver_origin", default=None)


def current_origin() -> Origin:
    return _current.get() or Origin()


def enter(path: str, request_id: str, address: str | None) -> None:
    """A request begins. Every request has a context of its own, or ends with `leave`."""
    _current.set(Origin(how=_how(path), request_id=request_id, address=address))


def leave() -> None:
    _current.set(None)


def note_key(prefix: str) -> None:
    """The request came by this key."""
    if (origin := _current.get()) is not None:
        origin.key_prefix = prefix


def note_person(person: Any) -> None:
    if (origin := _current.get()) is not None:
        origin.person = person


def _how(path: str) -> str:
    if path.startswith(API_PREFIXES):
        return API
    return ADMIN if path.startswith("/admin/") else PAGE
