"""The setting API_KEYS: each entry becomes a hashed key at start, and ends when it is gone.

An entry is a key, or `name:role:key`. The keys belong to the user `environment`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction

from accounts import audit
from accounts.models import ApiKey, Role
from accounts.services import hash_key, random_prefix, revoke_key

OWNER = "environment"
SHORTEST = 16
FEWEST_DIFFERENT = 8


class BadEntry(ValueError):
    """An entry that must not become a key; the sentence does not repeat it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    role: str
    key: str


def read_entries(text: str) -> list[Entry]:
    """Raises BadEntry. A short or monotonous key could be guessed."""
    return list(_entries(text))


@transaction.atomic
def sync_environment_keys() -> tuple[int, int]:
    """Make the rows say what the setting says; how many keys were made and revoked."""
    wanted = {hash_key(entry.key): entry for entry in read_entries(settings.API_KEYS)}
    rows = ApiKey.objects.select_related("user").filter(is_from_environment=True, revoked_at=None)
    kept = {key.hash: key for key in rows}
    for hashed, entry in wanted.items():
        if hashed in kept:
            _update(kept[hashed], entry)
        else:
            _make(hashed, entry)
    gone = [key for hashed, key in kept.items() if hashed not in wanted]
    for key in gone:
        revoke_key(key)
    return len(wanted.keys() - kept.keys()), len(gone)


def _entries(text: str) -> Iterator[Entry]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for number, part in enumerate(parts, 1):
        fields = part.split(":")
        if len(fields) not in (1, 3):
            raise BadEntry(f"Entry {number} of API_KEYS must be `key` or `name:role:key`.")
        name, role, key = fields if len(fields) == 3 else (f"API_KEYS {number}", "operator", part)
        if role not in Role.values:
            known = ", ".join(Role.values)
            raise BadEntry(f"Entry {number} of API_KEYS has no role of {known}.")
        if len(key) < SHORTEST or len(set(key)) < FEWEST_DIFFERENT:
            raise BadEntry(
                f"Entry {number} of API_KEYS could be guessed: it needs {SHORTEST} characters or "
                "more. Make one with `openssl rand -hex 32`."
            )
        yield Entry(name=name.strip()[:100] or f"API_KEYS {number}", role=role, key=key)


def _make(hashed: str, entry: Entry) -> None:
    key = ApiKey.objects.create(
        user=_owner(entry.role),
        name=entry.name,
        role=entry.role,
        hash=hashed,
        prefix=random_prefix(),
        is_from_environment=True,
    )
    audit.record(None, "key.create", key.pk, after={"name": key.name, "role": key.role})


def _update(key: ApiKey, entry: Entry) -> None:
    before = {"name": key.name, "role": key.role}
    after = {"name": entry.name, "role": entry.role}
    if before == after:
        return
    _owner(entry.role)
    key.name, key.role = entry.name, entry.role
    key.save(update_fields=["name", "role"])
    audit.record(None, "key.change", key.pk, **audit.differences(before, after))


def _owner(role: str) -> User:
    """Nobody signs in as this user; its role is the highest that one of its keys needs."""
    user, is_new = User.objects.get_or_create(username=OWNER)
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    if role == Role.ADMIN:
        user.groups.add(Group.objects.get_or_create(name=Role.ADMIN)[0])
    return user
