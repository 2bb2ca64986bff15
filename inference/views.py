"""The Playground: models in memory, loading and unloading them, trying them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode

from inference import services
from inference.models import LoadedModel, State
from inference.playground import describe_devices, describe_form
from inference.services import Wish
from mlserver.api.permissions import OPERATOR, may_change
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from models_registry.models import ModelVersion

OFFERED = 200


@page()
def playground(request: HttpRequest) -> HttpResponse:
    rows = list(LoadedModel.objects.select_related("version__model", "owner"))
    chosen = _choose(rows, request.GET.get("model", ""))
    who = person(request)
    context: dict[str, Any] = {
        "rows": [(row, may_change(who, row.owner_id)) for row in rows],
        "devices": describe_devices(rows),
        "is_moving": any(row.state not in (State.READY, State.FAILED) for row in rows),
        "ready": [row for row in rows if row.state == State.READY],
        "offered": _offered(rows),
        "asked": request.GET.get("model", ""),
        "chosen": chosen,
        "command": curl(request, "/api/v1/models/load", {"model_name": "digits"}),
    }
    if chosen is not None:
        form = context["form"] = describe_form(chosen)
        address = f"{request.scheme}://{request.get_host()}"
        context["data"] = {"model": str(chosen), "address": address, **form.for_script()}
    return render(request, "inference/playground.html", context)


def _choose(rows: list[LoadedModel], asked: str) -> LoadedModel | None:
    """The one asked for, by `name` or `name@version`; else the first that answers."""
    ready = [row for row in rows if row.state == State.READY and row.is_wanted]
    if asked:
        ready = [row for row in ready if asked in (str(row), row.version.model.name)]
    return ready[0] if ready else None


def _offered(rows: list[LoadedModel]) -> list[ModelVersion]:
    versions = ModelVersion.objects.select_related("model")
    return list(versions.exclude(pk__in=[row.version_id for row in rows])[:OFFERED])


@page("POST", role=OPERATOR)
def load(request: HttpRequest) -> HttpResponse:
    reference = request.POST.get("model", "").strip()
    wish = Wish(is_pinned="pinned" in request.POST)
    loaded = services.load_model(reference, person(request), wish)
    return redirect(f"/playground/?{urlencode({'model': str(loaded)})}")


@page("POST", role=OPERATOR)
def unload(request: HttpRequest) -> HttpResponse:
    loaded = services.unload_model(request.POST.get("model", "").strip(), person(request))
    messages.success(request, f"{loaded} answers what it has begun; then its memory is free.")
    return redirect("playground")
