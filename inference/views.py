"""Models in memory, and the Playground: loading and unloading them, trying them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from rest_framework.exceptions import ValidationError

from inference import services
from inference.models import LoadedModel, State
from inference.playground import describe_form, take_the_same
from inference.serializers import LoadSerializer
from inference.services import Wish
from inference.shelf import describe_devices, describe_row, offer_keeps, read_keep
from mlserver.api.errors import from_validation
from mlserver.api.permissions import OPERATOR
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from models_registry.models import ModelVersion

OFFERED = 200
MOST_COLUMNS = 3


@page()
def loaded_page(request: HttpRequest) -> HttpResponse:
    models = list(LoadedModel.objects.select_related("version__model", "owner"))
    rows = [describe_row(one, person(request)) for one in models]
    context = {
        "rows": rows,
        "devices": describe_devices(models),
        "is_moving": any(row.is_moving for row in rows),
        "offered": _offered(models),
        "keeps": offer_keeps(),
        "command": curl(request, "/api/v1/models/load", {"model_name": "digits"}),
    }
    return render(request, "inference/loaded.html", context)


def _offered(models: list[LoadedModel]) -> list[ModelVersion]:
    versions = ModelVersion.objects.select_related("model")
    return list(versions.exclude(pk__in=[one.version_id for one in models])[:OFFERED])


@page("POST", role=OPERATOR)
def load(request: HttpRequest) -> HttpResponse:
    """Also keeps one that is there for longer or shorter. `show`: what the Playground, where the
    request comes from, is to show then."""
    asked = LoadSerializer(
        data={
            "model_name": request.POST.get("model", ""),
            "device": request.POST.get("device", "auto"),
            "optimization_level": request.POST.get("optimization_level", 2),
            **read_keep(request.POST.get("keep", "")),
        }
    )
    try:
        asked.is_valid(raise_exception=True)
    except ValidationError as error:
        raise from_validation(error.detail, {}) from error
    wish = {name: asked.validated_data[name] for name in Wish.__dataclass_fields__}
    services.load_model(asked.validated_data["model_name"], person(request), Wish(**wish))
    show = request.POST.getlist("show")
    return redirect(_playground(show) if show else "loaded-page")


@page("POST", role=OPERATOR)
def unload(request: HttpRequest) -> HttpResponse:
    loaded = services.unload_model(request.POST.get("model", "").strip(), person(request))
    messages.success(request, f"{loaded} answers what it has begun; then its memory is free.")
    return redirect("loaded-page")


# --- The Playground -----------------------------------------------------------------------


@page()
def playground(request: HttpRequest) -> HttpResponse:
    models = list(LoadedModel.objects.wanted().select_related("version__model", "owner"))
    ready = [one for one in models if one.state == State.READY]
    names = list(dict.fromkeys(filter(None, request.GET.getlist("model"))))[:MOST_COLUMNS]
    found = {name: _find(models, name) for name in names}
    answering = [one for one in found.values() if one in ready] if names else ready[:1]
    chosen = list(dict.fromkeys(answering))
    alike = [one for one in ready if take_the_same(chosen[0], one)] if chosen else []
    columns = [one for one in chosen if one in alike]
    context: dict[str, Any] = {
        "ready": ready,
        "columns": columns,
        "beside": [
            (number, [one for one in alike if one != chosen[0]])
            for number in range(2, 1 + min(MOST_COLUMNS, len(alike)))
        ],
        "waiting": [(name, one) for name, one in found.items() if one not in ready],
        "strangers": [one for one in chosen if one not in alike],
        "asked": names,
        "command": curl(request, "/api/v1/models/load", {"model_name": "digits"}),
    }
    if columns:
        form = context["form"] = describe_form(columns[0])
        context["data"] = {
            "kind": form.kind,
            "image": form.image,
            "models": [_describe(one) for one in columns],
            "address": f"{request.scheme}://{request.get_host()}",
            "user": person(request).username,
        }
    return render(request, "inference/playground.html", context)


def _find(models: list[LoadedModel], name: str) -> LoadedModel | None:
    """By `name` or `name@version`; of several versions one that answers."""
    found = [one for one in models if name in (str(one), one.version.model.name)]
    return next((one for one in found if one.state == State.READY), found[0] if found else None)


def _describe(loaded: LoadedModel) -> dict[str, Any]:
    """What js/playground.js needs to know of a column."""
    assert loaded.signature is not None
    return {"name": str(loaded), "classes": loaded.signature.get("classes", [])}


def _playground(names: list[str]) -> str:
    return f"{reverse('playground')}?{urlencode({'model': names}, doseq=True)}"
