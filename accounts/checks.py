"""System checks of who may: settings that would open a door wrongly stop the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from accounts.environment import BadEntry, read_entries
from mlserver.api.areas import OPENABLE
from mlserver.api.proxies import read_networks

SHORTEST_JWT_KEY = 32


@register(Tags.security)
def check_doors(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [*_api_keys(), *_anonymous(), *_proxies(), *_jwt()]


def _api_keys() -> Iterator[CheckMessage]:
    try:
        read_entries(settings.API_KEYS)
    except BadEntry as error:
        yield Error(str(error), hint="See docs/keys.md.", id="mlserver.E010")


def _anonymous() -> Iterator[CheckMessage]:
    unknown = [area for area in settings.ALLOW_ANONYMOUS if area not in OPENABLE]
    if unknown:
        yield Error(
            f"ALLOW_ANONYMOUS names {', '.join(unknown)}, which cannot be opened to everyone.",
            hint=f"It takes any of {', '.join(OPENABLE)}.",
            id="mlserver.E011",
        )


def _proxies() -> Iterator[CheckMessage]:
    try:
        networks = read_networks(tuple(settings.TRUSTED_PROXIES))
    except ValueError as error:
        yield Error(
            f"TRUSTED_PROXIES: {error}.",
            hint="Name addresses or networks, such as 10.0.0.5 or 172.18.0.0/16.",
            id="mlserver.E012",
        )
        return
    if any(network.prefixlen == 0 for network in networks):
        yield Error(
            "TRUSTED_PROXIES trusts every address: anyone could claim to be anyone.",
            hint="Name only the proxy that stands in front.",
            id="mlserver.E013",
        )


def _jwt() -> Iterator[CheckMessage]:
    if len(str(settings.SIMPLE_JWT["SIGNING_KEY"])) < SHORTEST_JWT_KEY:
        yield Error(
            f"JWT_SIGNING_KEY is shorter than {SHORTEST_JWT_KEY} characters.",
            hint="Whoever guesses it can make tokens for anyone. Make one with "
            "`openssl rand -hex 32`, or leave it out: then it follows from SECRET_KEY.",
            id="mlserver.E014",
        )


@register(Tags.security, deploy=True)
def check_deployed(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.CORS_ALLOW_ALL_ORIGINS:
        found.append(
            Warning(
                "CORS_ORIGINS is *: pages of every site may use the API with a key that they know.",
                hint="Name the sites, such as https://lab.example.org.",
                id="mlserver.W010",
            )
        )
    if settings.CSRF_TRUSTED_ORIGINS and not settings.TRUSTED_PROXIES and _is_public():
        found.append(
            Warning(
                "PUBLIC_URL is set and TRUSTED_PROXIES is not: every client seems to be the proxy.",
                hint="Name the proxy's address in TRUSTED_PROXIES.",
                id="mlserver.W011",
            )
        )
    return found


def _is_public() -> bool:
    return any(urlsplit(url).scheme == "https" for url in settings.CSRF_TRUSTED_ORIGINS)
