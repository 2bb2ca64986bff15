"""JSON web tokens: a pair for a name and password, a new pair for the refresh half, one check.

The signature and the claims are simplejwt's work. Its table of outstanding tokens keeps their
ids alone, never the tokens: whoever reads the database cannot come in with what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts.services import Examined, record_request
from mlserver.lib.batches import delete_in_batches

REFUSED_SIGN_IN = "Name and password do not fit together, or the account is switched off."
REFUSED_TOKEN = "The token is not valid, or not any more."  # noqa: S105
SPENT = "a spent refresh token came again"


@dataclass(frozen=True, kw_only=True)
class Pair:
    access: str
    refresh: str
    expires_in: int
    """Seconds that the access half lives."""


def sign_in(request: HttpRequest, username: str, password: str) -> Pair:
    """A pair for who knows the password. Raises AuthenticationFailed.

    django-axes counts failures, and answers instead of us when there were too many; the
    signals write the AuthLog of failures.
    """
    user = authenticate(request, username=username, password=password)
    if not isinstance(user, User):
        raise AuthenticationFailed(REFUSED_SIGN_IN)
    record_request(request, user=user, success=True, reason="token issued")
    return _issue(user)


def refresh(request: HttpRequest, raw: str) -> Pair:
    """A new pair; the old refresh token is spent. Raises AuthenticationFailed."""
    try:
        old: RefreshToken = RefreshToken(raw)  # type: ignore[arg-type]  # its annotation says Token
        user = _owner(old)
    except (TokenError, AuthenticationFailed) as error:
        record_request(request, success=False, reason=_why(error))
        raise AuthenticationFailed(REFUSED_TOKEN) from None
    with transaction.atomic():
        if _spend(old, user):
            return _issue(user)
    record_request(request, user=user, success=False, reason=SPENT)
    raise AuthenticationFailed(REFUSED_TOKEN)


def is_valid(raw: str) -> bool:
    """Whether this token, of either half, would be accepted now."""
    for kind in (AccessToken, RefreshToken):
        try:
            _owner(kind(raw))  # type: ignore[arg-type]
        except (TokenError, AuthenticationFailed):
            continue
        return True
    return False


def examine_token(raw: str) -> Examined:
    """An access token, as `examine_key` does it for keys."""
    try:
        user = _owner(AccessToken(raw))  # type: ignore[arg-type]
    except (TokenError, AuthenticationFailed) as error:
        return Examined(accepted=False, reason=_why(error))
    return Examined(user=user, accepted=True, reason="token")


def looks_like_token(raw: str) -> bool:
    return raw.startswith("eyJ") and raw.count(".") == 2


def forget_expired() -> int:
    return delete_in_batches(OutstandingToken.objects.filter(expires_at__lte=timezone.now()))


def _owner(token: Token) -> User:
    """Raises AuthenticationFailed where the user left or has another password since."""
    user = JWTAuthentication().get_user(token)
    assert isinstance(user, User)
    return user


def _issue(user: User) -> Pair:
    token = RefreshToken.for_user(user)
    OutstandingToken.objects.filter(jti=token["jti"]).update(token="")
    return Pair(
        access=str(token.access_token),
        refresh=str(token),
        expires_in=int(AccessToken.lifetime.total_seconds()),
    )


def _spend(token: RefreshToken, user: User) -> bool:
    """Once only, however many ask at the same moment: the second finds the row there."""
    outstanding, _ = OutstandingToken.objects.get_or_create(
        jti=token["jti"],
        defaults={"user": user, "token": "", "expires_at": token.current_time + token.lifetime},
    )
    _, is_new = BlacklistedToken.objects.get_or_create(token=outstanding)
    return is_new


def _why(error: Exception) -> str:
    """A short reason for the log; simplejwt's sentences carry nothing of the token."""
    return f"token: {error.args[0] if error.args else type(error).__name__}"[:64]
