"""Who the client is behind a proxy: forwarding headers count only from TRUSTED_PROXIES.

From everybody else they are removed, so nothing further in can be misled by them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

from mlserver.api.around import around

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

CHAIN, CLIENT = "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP"
FORWARDED = (
    CHAIN,
    CLIENT,
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_FORWARDED",
)


def settle_address(request: HttpRequest) -> None:
    """Make REMOTE_ADDR the client's address, whoever handed the request on."""
    trusted = read_networks(tuple(settings.TRUSTED_PROXIES))
    peer = parse_address(request.META.get("REMOTE_ADDR"))
    if peer is None or not is_in(peer, trusted):
        for name in FORWARDED:
            request.META.pop(name, None)
    elif client := _client(request, trusted):
        request.META["REMOTE_ADDR"] = str(client)


# First of all, so that everything else sees the client's own address.
believe_proxies = around(before=settle_address)


def _client(request: HttpRequest, trusted: Sequence[Network]) -> Address | None:
    """From the right, the first that is no proxy of ours: what stands further left anyone
    may have written."""
    if CHAIN not in request.META:
        return parse_address(request.META.get(CLIENT))
    client = None
    for part in reversed(request.META[CHAIN].split(",")):
        address = parse_address(part.strip())
        if address is None:
            break
        client = address
        if not is_in(address, trusted):
            break
    return client


def parse_address(text: str | None) -> Address | None:
    """IPv4 within IPv6 counts as IPv4; a zone (`fe80::1%eth0`) says nothing to others."""
    try:
        address = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


@lru_cache(maxsize=256)
def read_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Raises ValueError for what is neither an address nor a network."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
