"""What can be done with keys, and the record of who tried to come in."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit, limits
from accounts.models import ApiKey, AuthLog, Role
from mlserver.api.permissions import rank, role_of
from mlserver.api.proxies import is_in, parse_address, read_networks
from mlserver.lib.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from mlserver.lib.ids import ALPHABET

PREFIX_LENGTH = 8
SECRET_BYTES = 32
LAST_USE_EVERY = timedelta(minutes=1)
LONGEST_OVERLAP = 7 * 24 * 3600  # seconds
OLD_SECRET = "old secret"  # noqa: S105  (in the log, beside an attempt that succeeded)
KEY_SHAPE = re.compile(r"mls_([a-z0-9]{1,12})_([A-Za-z0-9_-]{16,128})")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a presented key or token turned out to be. `reason` is for the log, never for the
    client."""

    key: ApiKey | None = None
    user: User | None = None
    accepted: bool
    reason: str = ""


CHANGEABLE = (
    "name",
    "role",
    "expires_at",
    "scopes",
    "allowed_networks",
    "rate_limit_requests",
    "rate_limit_period",
)


class RoleTooHigh(Forbidden):
    code = "role_too_high"


class KeyRevoked(Conflict):
    code = "key_revoked"


# --- Making, changing, ending ------------------------------------------------------------


def create_key(
    *,
    user: User,
    name: str,
    role: str,
    expires_at: datetime | None = None,
    scopes: Sequence[str] = (),
    allowed_networks: Sequence[str] = (),
    rate_limit: tuple[int, int] | None = None,
    by: User | None = None,
) -> tuple[ApiKey, str]:
    """The row, and the key itself: the only time that anyone sees it.

    `by` is who makes it, where that is not the user: nobody hands out more than they have.
    `rate_limit`: requests and seconds; only an admin gives one.
    """
    maker = by or user
    _check_name(name)
    _check_role(role, [user, maker])
    _check_expiry(expires_at)
    key = ApiKey(
        user=user,
        name=name.strip(),
        role=role,
        expires_at=expires_at,
        scopes=limits.check_scopes(scopes),
        allowed_networks=limits.check_networks(allowed_networks),
    )
    limits.set_rate_limit(key, rate_limit, by=maker)
    limits.check_within(key, maker)
    with transaction.atomic():
        raw = _give_secret(key)
        facts = {name: value for name, value in _facts(key).items() if value}
        audit.record(maker, "key.create", key.pk, after=facts)
    return key, raw


def change_key(
    key: ApiKey,
    *,
    by: User,
    name: str | None = None,
    role: str | None = None,
    expires_at: datetime | None = None,
    never_expires: bool = False,
    scopes: Sequence[str] | None = None,
    allowed_networks: Sequence[str] | None = None,
    rate_limit: tuple[int, int] | None = None,
    usual_rate_limit: bool = False,
) -> ApiKey:
    _refuse_managed(key)
    # Also for a new name: a weaker key must not touch a stronger one.
    _check_role(role or key.role, [key.user, by])
    _check_role(key.role, [by])
    limits.check_within(key, by)
    before = _facts(key)
    if name is not None:
        _check_name(name)
        key.name = name.strip()
    if expires_at is not None or never_expires:
        _check_expiry(expires_at)
        key.expires_at = expires_at
    key.role = role or key.role
    if scopes is not None:
        key.scopes = limits.check_scopes(scopes)
    if allowed_networks is not None:
        key.allowed_networks = limits.check_networks(allowed_networks)
    if rate_limit is not None or usual_rate_limit:
        limits.set_rate_limit(key, rate_limit, by=by)
    limits.check_within(key, by)
    with transaction.atomic():
        key.save(update_fields=[*CHANGEABLE])
        audit.record(by, "key.change", key.pk, **audit.differences(before, _facts(key)))
    return key


def revoke_key(key: ApiKey, by: User | None = None) -> None:
    """At once and for ever; the row stays, because the log points to it."""
    with transaction.atomic():
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(by, "key.revoke", key.pk, before={"name": key.name})
    key.refresh_from_db(fields=["revoked_at"])


def rotate_key(key: ApiKey, *, by: User, overlap_seconds: int = 0) -> tuple[ApiKey, str]:
    """A new secret for the same name, role, scopes and expiry.

    The old one stops at once, or opens for `overlap_seconds` more.
    """
    _refuse_managed(key)
    _check_role(key.role, [key.user, by])
    limits.check_within(key, by)
    if not 0 <= overlap_seconds <= LONGEST_OVERLAP:
        message = f"overlap_seconds must be between 0 and {LONGEST_OVERLAP}, got {overlap_seconds}"
        raise _invalid("overlap_seconds", message, str(overlap_seconds))
    key.previous_hash = key.hash if overlap_seconds else ""
    until = timezone.now() + timedelta(seconds=overlap_seconds)
    key.previous_until = until if overlap_seconds else None
    raw = f"mls_{key.prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    key.hash = hash_key(raw)
    with transaction.atomic():
        key.save(update_fields=["hash", "previous_hash", "previous_until"])
        audit.record(by, "key.rotate", key.pk, after={"old_secret_until": key.previous_until})
    return key, raw


def find_owner(username: str | None) -> User:
    """Whom a command acts for: the user of that name, or the first admin."""
    if username is not None:
        found = User.objects.filter(username=username).first()
        if found is None:
            raise NotFound(f"There is no user called {username}.")
        return found
    admin = User.objects.filter(is_superuser=True, is_active=True).order_by("id").first()
    if admin is None:
        raise NotFound("There is no admin yet: name an --owner, or run seed_demo first.")
    return admin


def create_first_admin() -> tuple[User, str, str] | None:
    """User `admin`, a random password and a key, where the server has no user yet."""
    password = secrets.token_urlsafe(12)
    with transaction.atomic():
        if User.objects.exists():
            return None
        user = User.objects.create_superuser("admin", password=password)
        _, raw = create_key(user=user, name="first key", role=Role.ADMIN)
    return user, password, raw


# --- Coming in ---------------------------------------------------------------------------


def examine_key(raw: str, address: str | None = None) -> Examined:
    key = _find_key(raw)
    # The comparison runs for unknown prefixes, too, so that time tells nothing.
    hashed = hash_key(raw)
    same = hmac.compare_digest(hashed, key.hash if key else "")
    old = hmac.compare_digest(hashed, (key.previous_hash if key else "") or "-")
    if key is None:
        known = KEY_SHAPE.fullmatch(raw) is not None
        return Examined(accepted=False, reason="unknown key" if known else "not a key")
    if not same and not (old and key.previous_until and key.previous_until > timezone.now()):
        return Examined(key=key, user=key.user, accepted=False, reason="wrong secret")
    reason = _why_unusable(key, address)
    return Examined(
        key=key,
        user=key.user,
        accepted=not reason,
        reason=reason or ("" if same else OLD_SECRET),
    )


def _find_key(raw: str) -> ApiKey | None:
    """By its prefix; one from the setting API_KEYS, which may look like anything, by its hash."""
    keys = ApiKey.objects.select_related("user").prefetch_related("user__groups")
    shape = KEY_SHAPE.fullmatch(raw)
    if shape and (found := keys.filter(prefix=shape[1]).first()):
        return found
    if not settings.API_KEYS:
        return None
    return keys.filter(is_from_environment=True, hash=hash_key(raw)).first()


def hash_key(raw: str) -> str:
    """32 random bytes need no slow hash. A pepper makes a stolen database useless by itself."""
    data = raw.encode("utf-8", "replace")
    if settings.API_KEY_PEPPER:
        return hmac.new(settings.API_KEY_PEPPER.encode(), data, hashlib.sha256).hexdigest()
    return hashlib.sha256(data).hexdigest()


def note_use(key: ApiKey, address: str | None) -> None:
    """At most once a minute: reads must not become writes."""
    now = timezone.now()
    if key.last_used_at is not None and key.last_used_at > now - LAST_USE_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lte=now - LAST_USE_EVERY)
    ApiKey.objects.filter(stale, pk=key.pk).update(
        last_used_at=now, last_used_address=clean_address(address)
    )


def describe_attempt(
    *,
    success: bool,
    endpoint: str,
    method: str = "",
    address: str | None = None,
    raw: str = "",
    key: ApiKey | None = None,
    user: User | None = None,
    reason: str = "",
) -> AuthLog:
    """One attempt to come in, not yet saved. Whatever bytes the client sent, it can be stored."""
    # Only what has the shape of a key is hashed: a password sent by mistake could be guessed back.
    shape = KEY_SHAPE.fullmatch(raw)
    return AuthLog(
        api_key_hash=hash_key(raw) if shape or key else "",
        prefix=key.prefix if key else shape[1] if shape else "",
        user=user,
        success=success,
        reason=_storable(reason, 64),
        method=_storable(method, 8),
        endpoint=_storable(endpoint, 255),
        address=clean_address(address),
    )


def record_attempt(*, success: bool, endpoint: str, **facts: Any) -> AuthLog:
    """As `describe_attempt` has it."""
    attempt = describe_attempt(success=success, endpoint=endpoint, **facts)
    attempt.save()
    return attempt


def describe_request(request: HttpRequest, *, success: bool, **facts: Any) -> AuthLog:
    """The attempt that a request makes to come in, not yet saved; `facts` are raw, key, user and
    reason."""
    return describe_attempt(
        success=success,
        endpoint=request.path,
        method=request.method or "",
        address=request.META.get("REMOTE_ADDR"),
        **facts,
    )


def record_request(request: HttpRequest, *, success: bool, **facts: Any) -> None:
    describe_request(request, success=success, **facts).save()


def clean_address(address: str | None) -> str | None:
    """A Unix socket has none; a zone (`fe80::1%eth0`) says nothing to others."""
    parsed = parse_address(address)
    return None if parsed is None else str(parsed)


# --- Rules -------------------------------------------------------------------------------


def _give_secret(key: ApiKey) -> str:
    for _ in range(5):
        key.prefix = random_prefix()
        raw = f"mls_{key.prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
        key.hash = hash_key(raw)
        try:
            with transaction.atomic():
                key.save()
        except IntegrityError:
            continue  # the prefix is taken; one in 10^11, but the price of trying again is nothing
        return raw
    raise Conflict("No free prefix for a new key was found; try again.")


def random_prefix() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(PREFIX_LENGTH))


def _why_unusable(key: ApiKey, address: str | None) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if not key.is_usable:
        return "expired"
    if not key.user.is_active:
        return "user not active"
    return "" if _may_come_from(key, address) else "address not allowed"


def _may_come_from(key: ApiKey, address: str | None) -> bool:
    if not key.allowed_networks:
        return True
    parsed = parse_address(address)
    return parsed is not None and is_in(parsed, read_networks(tuple(key.allowed_networks)))


def _facts(key: ApiKey) -> dict[str, Any]:
    """What the audit says of a key; nothing of its secret."""
    return {"user": key.user.get_username(), **{name: getattr(key, name) for name in CHANGEABLE}}


def _refuse_managed(key: ApiKey) -> None:
    if key.is_from_environment:
        raise Conflict(f"'{key.name}' comes from the setting API_KEYS; change it there.")
    if key.revoked_at is not None:
        raise KeyRevoked(f"The key '{key.name}' was revoked. Make a new one.")


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > 100:
        raise _invalid("name", "name must have 1 to 100 characters", name)


def _check_expiry(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= timezone.now():
        message = f"expires_at must lie in the future, got {expires_at.isoformat()}"
        raise _invalid("expires_at", message, expires_at.isoformat())


def _check_role(role: str, people: list[User]) -> None:
    if role not in Role.values:
        message = f"role must be one of {', '.join(Role.values)}, got '{role}'"
        raise _invalid("role", message, role)
    highest = min((role_of(person) for person in people), key=rank)
    if rank(role) > rank(highest):
        raise RoleTooHigh(f"A key with the role {role} needs that role; here it is {highest}.")


def _invalid(field: str, message: str, value: str) -> Invalid:
    return Invalid(f"{message}.", errors=[FieldError(field=field, message=message, value=value)])


def _storable(text: str, length: int) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:length]
