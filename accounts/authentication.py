"""How a request says who it is: a key or a token in one of three headers, or nobody at all
where ALLOW_ANONYMOUS opens the door. Browsers use their login (DRF's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import AuthLog, Role
from accounts.services import Examined, describe_request, examine_key, note_use
from accounts.tokens import examine_token, looks_like_token
from mlserver.api.areas import areas_of
from mlserver.api.permissions import act_by_key
from mlserver.lib.origin import note_key

SCHEMES = ("bearer", "token")
BEARER = 'Bearer realm="mlserver"'
REFUSED = "The key is not valid, or not any more."
TWO_KEYS = "The request carries two different credentials; send one."
ANONYMOUS = "anonymous"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class OpenDoor:
    """What people without a key may do where ALLOW_ANONYMOUS opens an area."""

    role: str = Role.OPERATOR
    scopes: list[str] = field(default_factory=list)
    allowed_networks: list[str] = field(default_factory=list)


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key or token>`, `Authorization: Token <key>`, `X-API-Key: <key>`.

    Every attempt leaves a row in AuthLog; every refusal looks the same from outside.
    """

    def authenticate(self, request: Request) -> tuple[User, Any] | None:
        examined = examine_request(request._request)
        if examined is None:
            person = _open_to_all(request._request)
            return None if person is None else (person, None)
        if not examined.accepted or examined.user is None:
            _record(request, examined, reason=examined.reason)
            raise AuthenticationFailed(TWO_KEYS if examined.reason == "two keys" else REFUSED)
        if _signed_in_as_another(request._request, examined.user):
            _record(request, examined, reason="key and login differ")
            raise AuthenticationFailed(TWO_KEYS)
        return self._come_in(request, examined, examined.user)

    def authenticate_header(self, request: Request) -> str:
        return BEARER

    def _come_in(self, request: Request, examined: Examined, user: User) -> tuple[User, Any]:
        _record(request, examined, success=True, reason=examined.reason)
        if examined.key is None:
            return user, presented_keys(request._request).pop()
        note_use(examined.key, request.META.get("REMOTE_ADDR"))
        note_key(examined.key.prefix)
        act_by_key(user, examined.key)
        return user, examined.key


def examine_request(request: HttpRequest) -> Examined | None:
    """What the headers present, looked up once a request; None: no key and no token."""
    known: Any = request
    if not hasattr(known, "examined_credential"):
        known.examined_credential = _examine(request)
    found: Examined | None = known.examined_credential
    return found


def presented_keys(request: HttpRequest) -> set[str]:
    """The keys that the headers carry. Other schemes (a proxy's Basic) are not ours to judge."""
    scheme, _, value = request.headers.get("Authorization", "").strip().partition(" ")
    keys = {value.strip()} if scheme.lower() in SCHEMES else set()
    if "X-API-Key" in request.headers:
        keys.add(request.headers["X-API-Key"].strip())
    return keys


def _examine(request: HttpRequest) -> Examined | None:
    raw_keys = presented_keys(request)
    if not raw_keys:
        return None
    if len(raw_keys) > 1:
        return Examined(accepted=False, reason="two keys")
    raw = raw_keys.pop()
    if looks_like_token(raw):
        return examine_token(raw)
    return examine_key(raw, request.META.get("REMOTE_ADDR"))


def _open_to_all(request: HttpRequest) -> User | None:
    """The user `anonymous`, where the setting opens this area and nobody is signed in."""
    areas = areas_of(request.path)
    if not areas or not set(areas) <= set(settings.ALLOW_ANONYMOUS):
        return None
    if _is_signed_in(request) or _is_from_foreign_page(request):
        return None
    user, is_new = User.objects.get_or_create(username=ANONYMOUS)
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    act_by_key(user, OpenDoor(scopes=list(settings.ALLOW_ANONYMOUS)))
    return user if user.is_active else None


def _is_from_foreign_page(request: HttpRequest) -> bool:
    """Any page that somebody of this network opens could otherwise write here."""
    origin = request.headers.get("Origin", "")
    if request.method in SAFE_METHODS or not origin or settings.CORS_ALLOW_ALL_ORIGINS:
        return False
    return origin not in (f"{request.scheme}://{request.get_host()}", *settings.CORS_ORIGINS)


def _is_signed_in(request: HttpRequest) -> bool:
    person = getattr(request, "user", None)
    return person is not None and bool(person.is_authenticated)


def _signed_in_as_another(request: HttpRequest, user: User) -> bool:
    return _is_signed_in(request) and request.user.pk != user.pk


def _record(
    request: Request, examined: Examined, *, success: bool = False, reason: str = ""
) -> None:
    plain: Any = request._request
    raw_keys = presented_keys(plain)
    attempt = describe_request(
        plain,
        success=success,
        raw=raw_keys.pop() if len(raw_keys) == 1 else "",
        key=examined.key if success else None,
        user=examined.user,
        reason=reason,
    )
    # The data plane, whose requests come by thousands, keeps them otherwise.
    keep: Callable[[AuthLog], None] = getattr(plain, "keep_attempt", AuthLog.save)
    keep(attempt)
