"""Signing in on a page leaves a row in the AuthLog. The signals are Django's own doors for it."""

from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.services import record_request


@receiver(user_logged_in, dispatch_uid="accounts.record_sign_in")
def record_sign_in(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    record_request(request, user=user, success=True, reason="signed in")


@receiver(user_login_failed, dispatch_uid="accounts.record_failed_sign_in")
def record_failed_sign_in(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    if request is None:
        return  # not a person at a door, but code that called authenticate()
    name = str(credentials.get("username", "")).replace("\0", "")
    user = User.objects.filter(username=name).first()
    record_request(request, user=user, success=False, reason=_why(request, user))


def _why(request: HttpRequest, user: User | None) -> str:
    if getattr(request, "axes_locked_out", False):
        return "locked out"  # whether or not the password was right
    return "wrong password" if user else "unknown user"
