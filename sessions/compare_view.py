"""The page Compare: a few sessions over each other. `/compare/?ids=a,b`"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from mlserver.lib.errors import Invalid, NotFound
from mlserver.pages.commands import curl
from mlserver.pages.doors import page
from sessions.comparison import compare_metrics, find_differences
from sessions.metrics import read_series
from sessions.models import TrainingSession

MOST = 10
MAX_POINTS = 500
EPOCH_KEYS = ("val_loss", "val_accuracy")


@page()
def compare_page(request: HttpRequest) -> HttpResponse:
    """Raises Invalid for less than two or more than MOST, NotFound for one that is gone."""
    sessions = find_sessions(request.GET.getlist("ids"))
    names = _names(sessions)
    context = {
        "sessions": list(zip(sessions, names, strict=True)),
        "differences": find_differences([session.config for session in sessions]),
        "metrics": compare_metrics(sessions),
        "data": [_curves(session, name) for session, name in zip(sessions, names, strict=True)],
        "command": "\n".join(
            curl(request, f"/api/v1/sessions/{session.pk}/series?keys=loss") for session in sessions
        ),
    }
    return render(request, "sessions/compare.html", context)


def find_sessions(named: list[str]) -> list[TrainingSession]:
    """In the order in which they were named, each once; `a,b` counts as two names."""
    ids = list(dict.fromkeys(one for text in named for one in text.split(",") if one))
    if not 2 <= len(ids) <= MOST:
        raise Invalid(f"Two to {MOST} sessions can be compared; {len(ids)} were named.")
    rows = TrainingSession.objects.select_related("job", "dataset_version__dataset", "produced")
    found = rows.prefetch_related("epoch_metrics").in_bulk(ids)
    for one in ids:
        if one not in found:
            raise NotFound(f"There is no session {one[:80]}.")
    return [found[one] for one in ids]


def _names(sessions: list[TrainingSession]) -> list[str]:
    """Titles; namesakes are told apart by the end of their ids."""
    titles = [session.title for session in sessions]
    return [
        f"{title} {session.pk[-5:]}" if titles.count(title) > 1 else title
        for session, title in zip(sessions, titles, strict=True)
    ]


def _curves(session: TrainingSession, name: str) -> dict[str, Any]:
    loss = read_series(session, "loss", max_points=MAX_POINTS)
    epochs = sorted(session.epoch_metrics.all(), key=lambda row: row.epoch)
    return {
        "name": name,
        "loss": {"x": loss.steps, "y": loss.values},
        **{
            key: {"x": [row.epoch for row in epochs], "y": [getattr(row, key) for row in epochs]}
            for key in EPOCH_KEYS
        },
    }
