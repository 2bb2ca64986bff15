"""The page New training: what is typed is checked and estimated, then started."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from datasets.models import Dataset, DatasetVersion
from datasets.services import find_version, read_preview
from ml.estimate import Steps
from mlserver.api.permissions import OPERATOR
from mlserver.lib.children import ChildFailed, ChildRefused
from mlserver.lib.errors import AppError, FieldError, NotFound
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from sessions.comparison import Difference, find_differences
from sessions.dry_run import dry_run
from sessions.forms import ConfigForm, read_priority, typed_config
from sessions.models import TrainingSession
from sessions.preflight import describe_queue, preflight
from sessions.services import start_session

PREVIEW_ROWS = 5


@page("GET", "HEAD", "POST", role=OPERATOR)
def new_page(request: HttpRequest) -> HttpResponse:
    """GET checks what the address holds without starting anything; POST starts it."""
    if request.method == "POST":
        form = ConfigForm(request.POST.dict())
        session = _start(request, form)
        if session is not None:
            return redirect("session-page", session.pk)
        return _show(request, form, status=422)
    form = ConfigForm(_first_values(request))
    report = _check(request, form, look="look" in request.GET) if request.GET else None
    return _show(request, form, report)


@page("POST", role=OPERATOR)
def try_page(request: HttpRequest) -> HttpResponse:
    """A dry run of what is typed; the page again, with what was measured."""
    form = ConfigForm(request.POST.dict())
    report = _check(request, form, look=True)
    if report is None:
        return _show(request, form, status=422)
    try:
        version = find_version(report["dataset"]["name"])
        report["dry_run"] = dry_run(report["config"], version, Steps(**report["steps"]))
    except AppError as error:
        report["dry_run"] = {"error": {"code": error.code, "message": error.detail}}
    return _show(request, form, report)


def _first_values(request: HttpRequest) -> dict[str, str]:
    """The address, on top of the session that is cloned, if one is named."""
    typed = request.GET.dict()
    source = _source(request)
    if source is None:
        return typed
    return {**typed_config(source.config), "name": source.name, **typed}


def _source(request: HttpRequest) -> TrainingSession | None:
    """The session that is cloned. Raises NotFound."""
    named = request.POST.get("from") or request.GET.get("from")
    if not named:
        return None
    session = TrainingSession.objects.filter(pk=named).first()
    if session is None:
        raise NotFound(f"There is no session {named[:80]} to clone.")
    return session


def _start(request: HttpRequest, form: ConfigForm) -> TrainingSession | None:
    try:
        return start_session(
            owner=person(request),
            config=form.config(),
            name=form.name,
            priority=read_priority(form.priority),
            cloned_from=_source(request),
        )
    except AppError as error:
        _refuse(form, error)
        return None


def _check(request: HttpRequest, form: ConfigForm, *, look: bool = False) -> dict[str, Any] | None:
    """What preflight says; None where nothing was chosen yet or something is wrong."""
    if not form.dataset:
        return None  # an error would come too early
    try:
        return preflight(
            form.config(),
            owner=person(request),
            name=form.name,
            priority=read_priority(form.priority),
            look=look,
        )
    except (ChildRefused, ChildFailed) as error:
        form.refuse([FieldError(field="dataset", message=error.detail)])
    except AppError as error:
        _refuse(form, error)
    return None


def _refuse(form: ConfigForm, error: AppError) -> None:
    errors = error.errors
    if isinstance(error, NotFound) and not errors:
        errors = (FieldError(field="dataset", message=error.detail),)
    form.refuse(errors, error.detail)


def _show(
    request: HttpRequest,
    form: ConfigForm,
    report: dict[str, Any] | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    config, version = form.config(), _chosen_version(form.dataset)
    source = _source(request)
    differences = _differences(source, report)
    context = {
        "form": form,
        "datasets": Dataset.objects.prefetch_related("versions"),
        "version": version,
        "preview": _preview(version),
        "config": config,
        "report": report,
        "queue": report["queue"] if report else describe_queue(person(request), priority=0),
        "source": source,
        "differences": differences,
        "command": _command(request, form, source, differences),
    }
    return render(request, "sessions/new.html", context, status=status)


def _chosen_version(reference: str) -> DatasetVersion | None:
    if not reference:
        return None
    try:
        return find_version(reference)
    except NotFound:
        return None  # the form says so under its field


def _preview(version: DatasetVersion | None) -> dict[str, Any] | None:
    """The first rows, each cell with its type; the form works without them."""
    if version is None:
        return None
    try:
        found = read_preview(version, 1, PREVIEW_ROWS)
    except AppError as error:
        return {"error": error.detail}
    rows = [list(zip(row, found["types"], strict=True)) for row in found["rows"]]
    return {"columns": found["columns"], "rows": rows}


def _differences(
    source: TrainingSession | None, report: dict[str, Any] | None
) -> list[Difference] | None:
    """From the session that is cloned; None where there is none, or nothing valid yet."""
    if source is None or report is None:
        return None
    return find_differences([source.config, report["config"]])


def _command(
    request: HttpRequest,
    form: ConfigForm,
    source: TrainingSession | None,
    differences: list[Difference] | None,
) -> str:
    named = {"name": form.name} if form.name else {}
    if source is None or differences is None:
        return curl(request, "/api/v1/sessions/", form.config() | named)
    changes = {one.name: one.values[1] for one in differences}
    return curl(request, f"/api/v1/sessions/{source.pk}/clone", changes | named)
