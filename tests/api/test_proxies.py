"""Who the client is: the address of the connection, unless a proxy of ours says otherwise."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from pytest_django import Settings

from accounts.checks import check_doors
from accounts.models import AuthLog
from accounts.services import create_key
from mlserver.api.proxies import settle_address


def address(settings: Settings, trusted: list[str], peer: str, **headers: str) -> str:
    settings.TRUSTED_PROXIES = trusted
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = RequestFactory().get("/", REMOTE_ADDR=peer, headers=named)
    settle_address(request)
    return str(request.META["REMOTE_ADDR"])


@pytest.mark.parametrize(
    ("trusted", "peer", "chain", "expected"),
    [
        ([], "9.9.9.9", "1.2.3.4", "9.9.9.9"),
        (["10.0.0.5"], "9.9.9.9", "1.2.3.4", "9.9.9.9"),
        (["10.0.0.5"], "10.0.0.5", "1.2.3.4", "1.2.3.4"),
        (["10.0.0.0/8"], "10.0.0.5", "6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
        (["10.0.0.0/8"], "10.0.0.5", "10.0.0.9, 10.0.0.7", "10.0.0.9"),
        (["10.0.0.0/8"], "10.0.0.5", "nonsense, 10.0.0.7", "10.0.0.7"),
        (["10.0.0.0/8"], "10.0.0.5", "nonsense", "10.0.0.5"),
        (["10.0.0.0/8"], "::ffff:10.0.0.5", "1.2.3.4", "1.2.3.4"),
        (["fd00::/8"], "fd00::1", "2001:db8::7", "2001:db8::7"),
    ],
)
def test_the_last_address_that_is_no_proxy_of_ours_counts(
    settings: Settings, trusted: list[str], peer: str, chain: str, expected: str
) -> None:
    assert address(settings, trusted, peer, x_forwarded_for=chain) == expected


def test_the_single_header_counts_where_there_is_no_chain(settings: Settings) -> None:
    assert address(settings, ["10.0.0.5"], "10.0.0.5", x_real_ip="1.2.3.4") == "1.2.3.4"
    both = {"x_real_ip": "6.6.6.6", "x_forwarded_for": "1.2.3.4"}
    assert address(settings, ["10.0.0.5"], "10.0.0.5", **both) == "1.2.3.4"
    assert address(settings, [], "10.0.0.5", x_real_ip="1.2.3.4") == "10.0.0.5"


def test_only_a_proxy_of_ours_may_say_that_the_way_was_encrypted(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.5"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    for peer, expected in (("10.0.0.5", True), ("9.9.9.9", False)):
        header = {"x-forwarded-proto": "https"}
        request = RequestFactory().get("/", REMOTE_ADDR=peer, headers=header)
        settle_address(request)
        assert request.is_secure() is expected


def test_the_log_has_the_clients_own_address(owner: User, settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    _, raw = create_key(user=owner, name="x", role="viewer")
    Client().get("/api/v1/me", headers={"x-api-key": raw, "x-forwarded-for": "1.2.3.4"})
    assert AuthLog.objects.get().address == "1.2.3.4"


@pytest.mark.parametrize(
    ("trusted", "check"), [("my-proxy", "E012"), ("0.0.0.0/0", "E013"), ("::/0", "E013")]
)
def test_a_setting_that_trusts_nothing_known_or_everybody_stops_the_start(
    settings: Settings, trusted: str, check: str
) -> None:
    settings.TRUSTED_PROXIES = [trusted]
    assert [message.id for message in check_doors(None)] == [f"mlserver.{check}"]
