"""The pages of training: the list, and one session."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from jobs.holds import hold_queue, lift_holds, list_holds
from jobs.models import LogLine, State
from jobs.services import queue_order
from mlserver.api.permissions import ADMIN, OPERATOR, has_role
from mlserver.lib.errors import NotFound
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from mlserver.pages.paging import list_rows
from sessions import services
from sessions.access import can_change
from sessions.comparison import Difference, find_differences
from sessions.diagnosis import describe_diagnosis
from sessions.files import list_checkpoints
from sessions.forms import read_priority
from sessions.models import EpochMetric, TrainingSession

TABS: dict[str, tuple[str, ...]] = {
    "all": tuple(State.values),
    "running": (State.RUNNING,),
    "queued": (State.QUEUED, State.PAUSED),
    "finished": (State.COMPLETED, State.CANCELLED),
    "failed": (State.FAILED,),
}
LOG_LINES = 300


# --- The list -----------------------------------------------------------------------------


@page()
def list_page(request: HttpRequest) -> HttpResponse:
    tab = request.GET.get("tab", "all")
    tab = tab if tab in TABS else "all"
    search = request.GET.get("q", "").strip()
    found = _search(search)
    context = {
        "tab": tab,
        "tabs": _count_tabs(found),
        "search": search,
        "listing": list_rows(request, found.filter(job__state__in=TABS[tab])),
        "holds": list(list_holds("train")),
        "can_hold": has_role(request.user, ADMIN),
        "command": curl(request, "/api/v1/sessions/?limit=20"),
    }
    return render(request, "sessions/list.html", context)


def _search(text: str) -> QuerySet[TrainingSession]:
    rows = TrainingSession.objects.select_related(
        "job__owner", "dataset_version__dataset", "produced__model"
    ).order_by("-job__created_at", "-job_id")
    if not text:
        return rows
    return rows.filter(
        Q(name__icontains=text)
        | Q(job__id__icontains=text)
        | Q(dataset_version__dataset__name__icontains=text)
        | Q(job__owner__username__icontains=text)
    )


def _count_tabs(rows: QuerySet[TrainingSession]) -> list[tuple[str, int]]:
    counted = {tab: Count("pk", filter=Q(job__state__in=states)) for tab, states in TABS.items()}
    return list(rows.aggregate(**counted).items())


# --- One session ------------------------------------------------------------------------------


@page()
def session_page(request: HttpRequest, session_id: str) -> HttpResponse:
    session = _find(session_id)
    epochs = list(session.epoch_metrics.order_by("epoch"))
    lines = list(LogLine.objects.filter(job_id=session.pk).order_by("-id")[:LOG_LINES])[::-1]
    metrics = _metrics(session, epochs)
    diagnosis = describe_diagnosis(session)
    context = {
        "session": session,
        "job": session.job,
        "can_change": can_change(person(request), session),
        "facts": _facts(session),
        "metrics": metrics,
        "is_classification": any(row.accuracy is not None for row in epochs) or not epochs,
        "epochs": epochs[::-1],
        "confusion": _confusion(session),
        "lines": lines,
        "differences": _differences(session),
        "diagnosis": diagnosis,
        "checkpoints": list_checkpoints(session),
        "artifacts": list(session.artifacts.all()),
        "data": {
            **_page_data(session, epochs, lines),
            "not_finite": diagnosis["not_finite"],
        },
        "command": curl(request, f"/api/v1/sessions/{session.pk}/events", options="-N"),
    }
    return render(request, "sessions/detail.html", context)


def _find(session_id: str) -> TrainingSession:
    rows = TrainingSession.objects.select_related(
        "job__owner", "dataset_version__dataset", "produced__model", "cloned_from__job"
    )
    session = rows.filter(pk=session_id).first()
    if session is None:
        raise NotFound(f"There is no session {session_id[:80]}.")
    return session


def _differences(session: TrainingSession) -> list[Difference] | None:
    """From the session that it was cloned from, while there is that one."""
    if session.cloned_from is None:
        return None
    return find_differences([session.cloned_from.config, session.config])


def _facts(session: TrainingSession) -> dict[str, Any]:
    """Times and places that follow from the row: how long, how much is left, where in line."""
    job = session.job
    end = job.finished_at or timezone.now()
    spent = (end - job.started_at).total_seconds() if job.started_at else None
    left = None
    if job.state == State.RUNNING and spent and job.progress > 0:
        left = spent * (100 - job.progress) / job.progress
    order = queue_order("train") if job.state == State.QUEUED else []
    return {
        "spent": spent,
        "left": left,
        "ends_at": timezone.now() + timedelta(seconds=left) if left is not None else None,
        "place": order.index(job.pk) + 1 if job.pk in order else None,
    }


def _metrics(session: TrainingSession, epochs: list[EpochMetric]) -> list[dict[str, Any]]:
    """The newest value of each metric, and the best with its epoch."""
    wanted = (
        ("loss", "Loss", min),
        ("val_loss", "Validation loss", min),
        ("accuracy", "Accuracy", max),
        ("val_accuracy", "Validation accuracy", max),
    )
    found = []
    for key, label, choose in wanted:
        known = [(getattr(row, key), row.epoch) for row in epochs if getattr(row, key) is not None]
        if known:
            best = choose(known, key=lambda pair: pair[0])
            found.append(
                {
                    "key": key,
                    "label": label,
                    "value": known[-1][0],
                    "is_share": "accuracy" in key,
                    "best": best[0],
                    "best_epoch": best[1],
                }
            )
    return found


def _confusion(session: TrainingSession) -> dict[str, Any] | None:
    """The newest matrix with a name before each row; None where the task has no classes."""
    found = session.summary.get("confusion")
    if not found:
        return None
    rows = list(zip(found["classes"], found["confusion"], strict=False))
    return {"epoch": found["epoch"], "classes": found["classes"], "rows": rows}


def _page_data(
    session: TrainingSession, epochs: list[EpochMetric], lines: list[LogLine]
) -> dict[str, Any]:
    keys = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    started = session.job.started_at
    return {
        "id": session.pk,
        "state": session.job.state,
        "progress": session.job.progress,
        "started_at": started.isoformat() if started else None,
        "current_step": session.current_step,
        "total_steps": session.total_steps,
        "total_epochs": session.total_epochs,
        "epochs": [{key: getattr(row, key) for key in keys} for row in epochs],
        "last_log": lines[-1].pk if lines else 0,
    }


# --- What a person may do to one ----------------------------------------------------------------


ACTIONS = {
    "cancel": (services.cancel_session, "Asked to cancel."),
    "pause": (services.pause_session, "Asked to pause; it saves a checkpoint first."),
    "resume": (services.resume_session, "Back in the queue; it goes on from its checkpoint."),
}


@page("POST", role=OPERATOR)
def act(request: HttpRequest, session_id: str, action: str) -> HttpResponse:
    verb, sentence = ACTIONS[action]
    verb(_find(session_id), person(request))
    messages.success(request, sentence)
    return redirect("session-page", session_id)


@page("POST", role=ADMIN)
def hold(request: HttpRequest) -> HttpResponse:
    """Nothing starts any more, for anybody, until somebody lifts it."""
    hold_queue("train", reason=request.POST.get("reason", ""), by=person(request).username)
    messages.success(request, "The queue is held; what runs goes on.")
    return redirect("sessions-page")


@page("POST", role=ADMIN)
def lift(request: HttpRequest) -> HttpResponse:
    lift_holds("train")
    messages.success(request, "The queue goes on.")
    return redirect("sessions-page")


@page("POST", role=OPERATOR)
def change_priority(request: HttpRequest, session_id: str) -> HttpResponse:
    priority = read_priority(request.POST.get("priority", ""))
    services.set_priority(_find(session_id), person(request), priority)
    messages.success(request, f"Priority {priority}.")
    return redirect("session-page", session_id)


@page("POST", role=OPERATOR)
def delete(request: HttpRequest, session_id: str) -> HttpResponse:
    services.delete_session(_find(session_id), person(request))
    messages.success(request, f"{session_id} is deleted.")
    return redirect("sessions-page")
