"""Who changed what: services call `record` once for each change, in its transaction.

Where a change came from (request, address, key) is read from mlserver.lib.origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from accounts.models import AuditEntry
from mlserver.api.proxies import parse_address
from mlserver.lib.origin import current_origin

SERVER = "server"
SECRETS = ("password", "secret", "token", "hash", "raw", "url", "api_key")
LONGEST_TEXT = 500


def record(
    by: Any,
    action: str,
    object_id: Any,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """One row: `record(user, "session.cancel", session.pk, before={"state": "running"})`.

    The word before the dot is the type of the object. `by` None: the server itself.
    """
    origin = current_origin()
    address = parse_address(origin.address)
    return AuditEntry.objects.create(
        user=by if getattr(by, "pk", None) else None,
        username=by.get_username() if by is not None else "",
        action=action,
        object_type=action.partition(".")[0],
        object_id=str(object_id)[:255],
        before=_plain(before or {}),
        after=_plain(after or {}),
        how=origin.how if by is not None else SERVER,
        key_prefix=origin.key_prefix,
        address=None if address is None else str(address),
        request_id=origin.request_id,
    )


def caller() -> Any:
    """Who asks, for services that are not told; None: nobody, the server acts by itself."""
    return current_origin().person


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Only what changed, as `record` takes it."""
    names = [name for name in after if before.get(name) != after[name]]
    return {
        "before": {name: before.get(name) for name in names},
        "after": {name: after[name] for name in names},
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _storable(value) for name, value in values.items() if not _is_secret(name)}


def _is_secret(name: str) -> bool:
    return any(word in name.lower().split("_") or word == name.lower() for word in SECRETS)


def _storable(value: Any) -> Any:
    """Short, and JSON: an audit row tells what was changed, it is no copy of it."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name)[:100]: _storable(inner) for name, inner in list(value.items())[:50]}
    if isinstance(value, list | tuple | set):
        return [_storable(inner) for inner in list(value)[:50]]
    text = str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
