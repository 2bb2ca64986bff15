"""What narrows a key: scopes, networks, a rate limit. Nobody makes a key wider than their own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from accounts.models import ApiKey
from mlserver.api.areas import AREAS
from mlserver.api.permissions import ADMIN, has_role
from mlserver.api.proxies import Network, read_networks
from mlserver.lib.errors import FieldError, Forbidden, Invalid

MOST_NETWORKS = 50
LARGEST = 2**31 - 1  # what the column holds


class KeyTooWide(Forbidden):
    code = "key_too_wide"


def check_scopes(scopes: Sequence[str]) -> list[str]:
    unknown = [scope for scope in scopes if scope not in AREAS]
    if unknown:
        message = f"scopes must be of {', '.join(AREAS)}; got '{str(unknown[0])[:50]}'"
        raise _invalid("scopes", message, str(unknown[0]))
    return sorted(set(scopes))


def check_networks(networks: Sequence[str]) -> list[str]:
    """As they are compared: `10.1.2.3/8` becomes `10.0.0.0/8`."""
    if len(networks) > MOST_NETWORKS:
        message = f"allowed_networks may name {MOST_NETWORKS} networks at most"
        raise _invalid("allowed_networks", message, str(len(networks)))
    return list(dict.fromkeys(_network(text) for text in networks))


def set_rate_limit(key: ApiKey, limit: tuple[int, int] | None, *, by: Any) -> None:
    """None: what the settings say."""
    wanted = limit or (None, None)
    if wanted == (key.rate_limit_requests, key.rate_limit_period):
        return
    if not has_role(by, ADMIN):
        raise Forbidden("Only an admin gives a key a rate limit of its own.")
    for name, value in zip(("rate_limit_requests", "rate_limit_period"), wanted, strict=True):
        if value is not None and not 1 <= value <= LARGEST:
            message = f"{name} must be between 1 and {LARGEST}, got {value}"
            raise _invalid(name, message, str(value))
    key.rate_limit_requests, key.rate_limit_period = wanted


def check_within(key: ApiKey, by: Any) -> None:
    """The key by which somebody acts must itself be at least as wide as the one they touch."""
    own = getattr(by, "acting_key", None)
    if own is None:
        return
    if own.scopes and (not key.scopes or set(key.scopes) - set(own.scopes)):
        allowed = ", ".join(own.scopes)
        raise KeyTooWide(f"Your own key is only for {allowed}; so must this one be.")
    if own.allowed_networks and not _are_inside(key.allowed_networks, own.allowed_networks):
        allowed = ", ".join(own.allowed_networks)
        raise KeyTooWide(f"Your own key comes in only from {allowed}; so must this one.")


def _are_inside(inner: Sequence[str], outer: Sequence[str]) -> bool:
    """A key without networks comes in from everywhere, which is inside of nothing."""
    around = read_networks(tuple(outer))
    return bool(inner) and all(
        any(_is_subnet(each, wide) for wide in around) for each in read_networks(tuple(inner))
    )


def _is_subnet(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        message = f"'{text[:50]}' is no network; write it like 10.0.0.0/8 or 192.168.1.7"
        raise _invalid("allowed_networks", message, text[:50]) from None


def _invalid(field: str, message: str, value: str) -> Invalid:
    return Invalid(f"{message}.", errors=[FieldError(field=field, message=message, value=value)])
