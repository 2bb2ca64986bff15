"""Rows as JSON and back, so that what was deleted can be made again with the ids it had."""

import json
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.core import serializers
from django.db.models import Model


def write_rows(rows: Iterable[Model]) -> list[dict[str, Any]]:
    # Not "json": that serializer cuts moments to milliseconds.
    facts: list[dict[str, Any]] = json.loads(
        json.dumps(serializers.serialize("python", rows), default=str)
    )
    return facts


def read_rows(facts: list[dict[str, Any]]) -> list[Any]:
    """Not saved yet. A column that a later migration took away is no reason to lose the rest."""
    found = serializers.deserialize("python", facts, ignorenonexistent=True)
    return [each.object for each in found]


def forget_lost_people(row: Model, field: str) -> None:
    """An account may have been deleted in the meantime."""
    if not User.objects.filter(pk=getattr(row, field)).exists():
        setattr(row, field, None)
