"""What leaves this machine: where to, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import time
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from typing import Any

import pytest
from pytest_django import Settings

from mlserver.lib import webhooks
from mlserver.lib.outgoing import AddressRefused, OutgoingFailed, find_target, is_public, send
from tests.lib.receiver import receiver, reply


@pytest.fixture
def local(settings: Settings) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = ["127.0.0.0/8"]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def answer(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "//example.org/",
        "http:///path",
        "http://user:secret@example.org/",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://exa mple.org/",
        "http://example.org/a\r\nX-Evil: 1",
        "http://[::1/",
        "http://example.org\\@127.0.0.1/",
        "http://exämple.org/",
    ],
)
def test_it_refuses_an_address_that_is_written_wrongly(url: str) -> None:
    with pytest.raises(AddressRefused) as refusal:
        find_target(url)
    assert refusal.value.errors[0].field == "url"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_it_refuses_addresses_that_are_not_public(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    assert not is_public(ip_address(address))
    resolve_to(monkeypatch, address)
    with pytest.raises(AddressRefused, match="ALLOWED_PRIVATE_HOSTS"):
        find_target("https://innocent.example/")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_fine(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "[::1]"])
def test_it_refuses_this_machine_under_all_its_names(host: str) -> None:
    with pytest.raises(AddressRefused):
        find_target(f"http://{host}/")


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        find_target("http://both.example/")


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, local: None
) -> None:
    """A name server that says something else the second time is not asked a second time."""
    with receiver() as told:
        port = int(told.url.rpartition(":")[2])
        resolve_to(monkeypatch, "127.0.0.1")
        answer = send("POST", f"http://hook.example:{port}/a?b=c", body=b"{}")
        [(path, headers, body)] = told.requests
    assert (answer.status, path, body) == (204, "/a?b=c", b"{}")
    assert headers["Host"] == f"hook.example:{port}"


@pytest.mark.parametrize("entry", ["intra.example", "10.0.0.0/8", "10.0.0.1"])
def test_listed_hosts_and_networks_are_reachable(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, entry: str
) -> None:
    settings.ALLOWED_PRIVATE_HOSTS = [entry]
    resolve_to(monkeypatch, "10.0.0.1")
    assert find_target("http://Intra.example./").address == "10.0.0.1"


def test_a_redirect_is_an_answer_and_is_not_followed(local: None) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with receiver() as told:
        told.answer = redirect
        assert send("GET", told.url).status == 302
        assert len(told.requests) == 1


def test_an_endless_answer_is_cut(local: None) -> None:
    with receiver() as told:
        told.answer = lambda handler: reply(handler, 200, b"x" * 5000)
        with pytest.raises(OutgoingFailed, match="more than 1000 bytes"):
            send("GET", told.url, most_bytes=1000)


def test_a_drip_of_bytes_ends_at_the_deadline(local: None) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        for _ in range(100):
            try:
                handler.wfile.write(b"H")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    with receiver() as told:
        told.answer = drip
        with pytest.raises(OutgoingFailed):
            send("GET", told.url, total_seconds=0.3)


def test_a_closed_port_is_a_sentence(local: None) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(OutgoingFailed, match="did not answer: Connection refused"):
        send("GET", f"http://127.0.0.1:{port}/")


def test_proxies_of_the_environment_are_not_asked(
    monkeypatch: pytest.MonkeyPatch, local: None
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    with receiver() as told:
        assert send("GET", told.url).status == 204


# --- webhooks ---------------------------------------------------------------------------------


def test_a_message_can_be_verified_by_its_receiver(local: None) -> None:
    with receiver() as told:
        webhooks.post_message(
            told.url, message_id="msg_1", timestamp=1700000000, payload={"event": "opened"}
        )
        [(_, headers, body)] = told.requests
        secret = webhooks.signing_secret(told.url)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b"msg_1.1700000000." + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_1", "1700000000")
    assert json.loads(body) == {"event": "opened"}


def test_each_address_has_its_own_secret_and_it_stays_the_same() -> None:
    one, other = webhooks.signing_secret("https://a/"), webhooks.signing_secret("https://b/")
    assert one != other
    assert one == webhooks.signing_secret("https://a/")


def test_the_scheme_gives_the_signature_of_its_own_example() -> None:
    """The vector of the Standard Webhooks specification's libraries."""
    signature = webhooks.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_answer_other_than_2xx_is_a_failure(local: None) -> None:
    with receiver() as told:
        told.answer = lambda handler: reply(handler, 500)
        with pytest.raises(OutgoingFailed, match="500 instead of 2xx"):
            webhooks.post_message(told.url, message_id="m", timestamp=1, payload={})


def test_waiting_grows_and_ends(settings: Settings) -> None:
    waits = [webhooks.seconds_until_next(attempts) for attempts in range(1, 9)]
    assert waits == [*webhooks.BACKOFF_SECONDS, None]
    settings.WEBHOOK_RETRY_LIMIT = 0
    assert webhooks.seconds_until_next(1) is None


def test_tls_asks_for_the_name_while_it_connects_to_the_address(
    monkeypatch: pytest.MonkeyPatch, local: None
) -> None:
    asked: list[str | None] = []

    class Plain(socket.socket):
        def do_handshake(self) -> None:
            """Nothing: the receiver of this test speaks no TLS."""

    class Context:
        def wrap_socket(self, sock: socket.socket, *, server_hostname: str, **_: Any) -> Plain:
            asked.append(server_hostname)
            secure = Plain(fileno=sock.detach())
            secure.settimeout(5)
            return secure

    with receiver() as told:
        port = int(told.url.rpartition(":")[2])
        resolve_to(monkeypatch, "127.0.0.1")
        monkeypatch.setattr(ssl, "create_default_context", Context)
        assert send("GET", f"https://hook.example:{port}/").status == 204
    assert asked == ["hook.example"]


def test_a_server_without_a_valid_certificate_is_not_trusted(local: None) -> None:
    with receiver() as told, pytest.raises(OutgoingFailed, match="did not answer"):
        send("GET", told.url.replace("http:", "https:"))
