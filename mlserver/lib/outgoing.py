"""The one way out: every request to an address that a person typed goes through here.

http and https only; the name is resolved once and every address it has must be public,
unless ALLOWED_PRIVATE_HOSTS lists it; the connection goes to that very address, so that a
second answer of the name server changes nothing. No proxies, bounded in time and size; redirects
only where the caller asks for them, each checked like the first address.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from django.conf import settings

from mlserver.lib.errors import AppError, FieldError, Invalid

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
MOST_BYTES = 64 * 1024
CHUNK_BYTES = 2**20
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that is on its way; `size_bytes` is what was announced, if it was."""

    url: str
    size_bytes: int | None
    chunks: Iterator[bytes]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a request goes: `address` is what is connected to, `host` what it is called."""

    scheme: str
    host: str
    port: int
    path: str
    address: str

    @property
    def host_header(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


class AddressRefused(Invalid):
    code = "address_refused"

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message, errors=[FieldError(field="url", message=message, value=url)])


class OutgoingFailed(AppError):
    """The other side could not be reached, or did not answer as it should."""

    status = 502
    code = "outgoing_failed"


def send(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    total_seconds: float = TOTAL_SECONDS,
    most_bytes: int = MOST_BYTES,
) -> Reply:
    """One request, one answer of any status. Raises AddressRefused or OutgoingFailed."""
    target = find_target(url)
    with _failures_told(target), _connected(target, total_seconds) as connection:
        answer = _ask(connection, method, target, body, headers or {})
        content = answer.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OutgoingFailed(f"{target.host} answered with more than {most_bytes} bytes.")
    return Reply(status=answer.status, body=content)


@contextlib.contextmanager
def download(url: str, *, total_seconds: float, most_hops: int = 0) -> Iterator[Download]:
    """GET a file as a stream. `most_hops` redirects are followed, each checked like the first.

    Raises AddressRefused, or OutgoingFailed also while the chunks are read.
    """
    ends_at = time.monotonic() + total_seconds
    for left in range(most_hops, -1, -1):
        target = find_target(url)
        with _connected(target, max(0.1, ends_at - time.monotonic())) as connection:
            with _failures_told(target):
                answer = _ask(connection, "GET", target, b"", {})
            location = answer.headers.get("Location", "")
            if answer.status in REDIRECTS and location and left:
                url = urljoin(url, location)
                continue
            if answer.status != http.HTTPStatus.OK:
                raise OutgoingFailed(f"{target.host} {_why_no_file(answer.status, location)}.")
            yield Download(
                url=url, size_bytes=answer.length, chunks=_chunks(answer, connection, target)
            )
            return


def _why_no_file(status: int, location: str) -> str:
    if status in REDIRECTS and location:
        return f"sends on to {location[:200]}; give that address"
    return f"answered with status {status} instead of the file"


def _chunks(
    answer: http.client.HTTPResponse, connection: _Pinned, target: Target
) -> Iterator[bytes]:
    announced, received = answer.length, 0
    while True:
        with _failures_told(target):
            chunk = answer.read(CHUNK_BYTES)
        if not chunk:
            break
        received += len(chunk)
        yield chunk
    # http.client takes an early end for an end.
    if connection.is_late:
        raise OutgoingFailed(f"{target.host} did not send the whole file in time.")
    if announced is not None and received < announced:
        raise OutgoingFailed(
            f"{target.host} broke off after {received:,} of {announced:,} bytes; try again."
        )


@contextlib.contextmanager
def _connected(target: Target, seconds: float) -> Iterator[_Pinned]:
    """A connection for one request, ended after the time at the latest."""
    connection = _Pinned(target, min(CONNECT_SECONDS, seconds))
    try:
        with _deadline(connection, seconds):
            yield connection
    finally:
        connection.close()


def _ask(
    connection: _Pinned, method: str, target: Target, body: bytes, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    connection.request(method, target.path, body, {"Host": target.host_header, **headers})
    return connection.getresponse()


@contextlib.contextmanager
def _failures_told(target: Target) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ssl.CertificateError) as error:
        raise OutgoingFailed(f"{target.host} did not answer: {_words(error)}.") from error


def find_target(url: str) -> Target:
    """Check the address as it is written, resolve its name, check where that leads."""
    parts = check_url(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or PORTS[parts.scheme]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    addresses = _resolve(host, port, url)
    for address in addresses:
        if not is_public(address) and not _is_listed(host, address):
            raise AddressRefused(
                f"{host} leads to {address}, which is not a public address; an administrator may"
                " list it in ALLOWED_PRIVATE_HOSTS.",
                url,
            )
    return Target(scheme=parts.scheme, host=host, port=port, path=path, address=str(addresses[0]))


def check_url(url: str) -> SplitResult:
    """What can be said without asking a name server."""
    if FORBIDDEN.search(url) or not url.isascii():
        raise AddressRefused("The URL contains blanks or characters that must be encoded.", url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused(f"This is no URL: {error}.", url) from None
    if parts.scheme not in PORTS:
        raise AddressRefused("The URL must begin with http:// or https://.", url)
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("The URL must not contain a user name or a password.", url)
    if not parts.hostname or port == 0:
        raise AddressRefused("The URL must name a host, and a port only from 1 to 65535.", url)
    return parts


def is_public(address: Address) -> bool:
    """Also looks at the IPv4 address that an IPv6 one may carry inside."""
    every = (address, *_embedded(address))
    return all(one.is_global and not one.is_multicast for one in every)


def _embedded(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inside: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    inside += address.teredo or ()
    if address in NAT64:
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in inside if one is not None]


def _is_listed(host: str, address: Address) -> bool:
    """ALLOWED_PRIVATE_HOSTS holds names, addresses and networks."""
    for entry in settings.ALLOWED_PRIVATE_HOSTS:
        if entry.lower() == host.lower():
            return True
        with contextlib.suppress(ValueError):  # a name, not a network
            if address in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def _resolve(host: str, port: int, url: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressRefused(f"There is no host called {host[:100]}.", url) from None
    # A scope (fe80::1%eth0) is no part of the address.
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was checked; only TLS and the Host header know the name."""

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout)
        self._target = target
        # http.client forgets its socket where the server says that it will close.
        self.kept: socket.socket | None = None
        self.is_late = False

    def connect(self) -> None:
        family = socket.AF_INET6 if ":" in self._target.address else socket.AF_INET
        # Kept before anything is awaited, so that the deadline can end that, too.
        self.sock = self.kept = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self._target.address, self._target.port))
        if self._target.scheme == "https":
            secure = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            self.sock = self.kept = secure
            secure.do_handshake()


@contextlib.contextmanager
def _deadline(connection: _Pinned, seconds: float) -> Iterator[None]:
    """Time-outs of a socket count each read alone: a byte a second would hold us for ever."""

    def end() -> None:
        connection.is_late = True
        with contextlib.suppress(OSError):
            if connection.kept is not None:
                connection.kept.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")
