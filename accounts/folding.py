"""The log of attempts where thousands come in each second: those of a minute are one row.

Only successes are folded; a refusal is a row of its own. A process that is killed loses the
counts of its last second, never the row.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import F

from accounts.models import AuthLog

Key = tuple[str, int | None, str, str, str | None]


@dataclass
class Fold:
    """`row` is saved with the first of them; `unsaved`: how many came since."""

    row: AuthLog
    minute: int
    unsaved: int = 0


class FoldedAttempts:
    """Of one process; for its event loop, but for `save_folds`."""

    def __init__(self) -> None:
        self._folds: dict[Key, Fold] = {}

    def note(self, attempt: AuthLog, now: float) -> None:
        """One more like this one, at `now` (Unix time)."""
        key = (
            attempt.api_key_hash, attempt.user_id, attempt.method, attempt.endpoint,
            attempt.address,
        )  # fmt: skip
        fold, minute = self._folds.get(key), int(now // 60)
        if fold is None or (fold.minute != minute and not fold.unsaved):
            fold = self._folds[key] = Fold(_copy(attempt), minute)
        fold.unsaved += 1

    def take(self, now: float) -> list[tuple[Fold, int]]:
        """What came since the last time, for `save_folds`."""
        due = [(fold, fold.unsaved) for fold in self._folds.values() if fold.unsaved]
        self._folds = {
            key: fold
            for key, fold in self._folds.items()
            if fold.unsaved or fold.minute == int(now // 60)
        }
        for fold, count in due:
            fold.unsaved -= count
        return due

    def put_back(self, due: list[tuple[Fold, int]]) -> None:
        """It could not be saved; the next time it may."""
        for fold, count in due:
            fold.unsaved += count


def save_folds(due: list[tuple[Fold, int]]) -> None:
    """In a thread, one at a time."""
    with transaction.atomic():
        for fold, count in due:
            _save(fold.row, count)


def _copy(attempt: AuthLog) -> AuthLog:
    """Callers are remembered; each minute's row is another one."""
    values = {
        field.attname: getattr(attempt, field.attname)
        for field in AuthLog._meta.concrete_fields
        if field.attname not in ("id", "timestamp")
    }
    return AuthLog(**values)


def _save(row: AuthLog, count: int) -> None:
    if row.pk is None:
        row.count = count
        row.save()
    else:
        AuthLog.objects.filter(pk=row.pk).update(count=F("count") + count)
