"""The side navigation with its counts, for every page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest

from jobs.models import Job, State
from monitoring.models import Alert

# label, path, begins a group
ENTRIES = (
    ("Overview", "/", False),
    ("System", "/system/", False),
    ("Training", "/sessions/", False),
    ("Datasets", "/datasets/", False),
    ("Models", "/models/", False),
    ("Playground", "/playground/", False),
    ("Keys", "/settings/keys/", True),
    ("Sign-ins", "/settings/log/", False),
    ("Audit", "/audit/", False),
    ("API docs", "/docs", True),
)


@dataclass(frozen=True)
class Entry:
    label: str
    path: str
    current: bool
    apart: bool
    running: int = 0
    waiting: int = 0
    alerts: int = 0


def navigation(request: HttpRequest) -> dict[str, Callable[[], list[Entry]]]:
    """A context processor; counts only when a template asks for them."""
    return {"nav": lambda: list_entries(request.path)}


def list_entries(path: str) -> list[Entry]:
    counts = Job.objects.filter(kind="train").aggregate(
        running=Count("pk", filter=Q(state=State.RUNNING)),
        waiting=Count("pk", filter=Q(state=State.QUEUED)),
    )
    numbers = {"/sessions/": counts, "/system/": {"alerts": Alert.objects.calling().count()}}
    return [_entry(*entry, path, numbers) for entry in ENTRIES]


def _entry(
    label: str, target: str, apart: bool, path: str, numbers: dict[str, dict[str, Any]]
) -> Entry:
    current = path == target if target == "/" else f"{path}/".startswith(target)
    return Entry(label, target, current, apart, **numbers.get(target, {}))
