"""The pages of models: the list, and one model with its versions, files and origin."""

from __future__ import annotations

from urllib.parse import quote

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from mlserver.api.permissions import OPERATOR, may_change
from mlserver.lib.errors import AppError, FieldError
from mlserver.lib.trash import Entry
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from mlserver.pages.paging import list_rows
from models_registry import removal, services, uploads
from models_registry.access import can_change
from models_registry.cards import render_card
from models_registry.metrics import compare_metrics
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.names import LATEST

SNIPPETS = {
    "code": (
        "# needs torch, safetensors and numpy; nothing of this server\n"
        "import model\n\n"
        'network, preprocess = model.load(".")\n'
        'answers = model.predict(".", rows)  # rows: what the dataset holds, without its target'
    ),
    "transformers": (
        "# needs transformers and torch; nothing of this server\n"
        "from transformers import AutoConfig, AutoTokenizer\n"
        "import transformers\n\n"
        'config = AutoConfig.from_pretrained(".")\n'
        'model = getattr(transformers, config.architectures[0]).from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")'
    ),
    "onnx": (
        "# needs onnxruntime; nothing of this server\n"
        "import glob, onnxruntime\n\n"
        'session = onnxruntime.InferenceSession(glob.glob("*.onnx")[0])\n'
        "outputs = session.run(None, inputs)  # inputs: name to array"
    ),
    "torchscript": (
        "# runs code of whoever brought it: only where you trust them\n"
        "import glob, torch\n\n"
        'model = torch.jit.load(glob.glob("*")[0])'
    ),
    "safetensors": (
        "# needs safetensors and torch; nothing of this server\n"
        "import glob\n"
        "from safetensors.torch import load_file\n\n"
        'weights = {name: load_file(name) for name in glob.glob("*.safetensors")}'
    ),
}


@page()
def list_page(request: HttpRequest) -> HttpResponse:
    return _list(request)


@page("POST", role=OPERATOR)
def upload(request: HttpRequest) -> HttpResponse:
    try:
        version, _ = uploads.add_model(
            owner=person(request),
            name=request.POST.get("name", "").strip(),
            files=uploads.uploaded_files(request.FILES.getlist("file")),
        )
    except AppError as error:
        errors = error.errors or (FieldError(field="file", message=error.detail),)
        return _list(request, errors, status=error.status)
    messages.success(request, f"{version} is looked through and kept.")
    return redirect("model-page", version.model.name)


def _list(
    request: HttpRequest, errors: tuple[FieldError, ...] = (), status: int = 200
) -> HttpResponse:
    search = request.GET.get("q", "").strip()
    context = {
        "search": search,
        "listing": list_rows(request, _search(search)),
        "deleted": [
            entry for entry in removal.list_deleted() if may_change(person(request), entry.owner_id)
        ],
        "errors": {error.field: error.message for error in errors},
        "typed": request.POST,
        "command": curl(request, "/api/v1/models/", options="-F name=my-model -F file=@model.zip"),
    }
    return render(request, "models/list.html", context, status=status)


def _search(text: str) -> QuerySet[RegisteredModel]:
    rows = RegisteredModel.objects.select_related("owner").prefetch_related(
        "versions", "aliases__version"
    )
    return rows.filter(name__icontains=text) if text else rows


@page()
def model_page(request: HttpRequest, name: str) -> HttpResponse:
    version = _find_version(name, request.GET.get("v") or LATEST)
    model = version.model
    download = f"/api/v1/models/{model.name}/versions/{version.number}/download"
    context = {
        "model": model,
        "version": version,
        "versions": model.versions.prefetch_related("aliases").order_by("-number"),
        "metrics": compare_metrics(version, _previous(version)),
        "previous_version": _previous(version),
        "aliases": model.aliases.select_related("version__model"),
        "card": render_card(version.card) if version.card else "",
        "can_change": can_change(person(request), model),
        "download": download,
        "snippet": _snippet(model, version),
        "command": curl(request, download, options=f"-o {model.name}-v{version.number}.zip"),
    }
    return render(request, "models/detail.html", context)


def _find_version(name: str, which: str | int) -> ModelVersion:
    return services.pick_version(services.find_model(name), str(which))


def _previous(version: ModelVersion) -> ModelVersion | None:
    older = version.model.versions.filter(number__lt=version.number)
    return older.order_by("-number").first()


def _snippet(model: RegisteredModel, version: ModelVersion) -> str:
    folder = f"{model.name}-v{version.number}"
    return f"# unzip {folder}.zip && cd {folder}\n" + SNIPPETS[_way_in(version)]


def _way_in(version: ModelVersion) -> str:
    """What opens its files: the code among them, else the library of its framework."""
    has_code = any(file["path"] == "model.py" for file in version.files)
    return "code" if has_code or version.framework not in SNIPPETS else version.framework


@page("POST", role=OPERATOR)
def delete(request: HttpRequest, name: str) -> HttpResponse:
    entry = removal.delete_model(services.find_model(name), person(request))
    messages.success(request, _thrown_away(entry))
    return redirect("models-page")


@page("POST", role=OPERATOR)
def delete_version(request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _find_version(name, number)
    entry = removal.delete_version(version, person(request))
    messages.success(request, _thrown_away(entry))
    # A model without versions has no page of its own.
    has_others = version.model.versions.exists()
    return redirect("model-page", name) if has_others else redirect("models-page")


def _thrown_away(entry: Entry) -> str:
    until = f"{entry.kept_until:%d %b %Y}"
    return f"{entry.label} lies in the trash until {until}; it can be restored."


@page("POST", role=OPERATOR)
def restore(request: HttpRequest, name: str) -> HttpResponse:
    model = removal.restore_model(
        name,
        person(request),
        new_name=request.POST.get("name", "").strip(),
        entry_id=request.POST.get("entry"),
    )
    messages.success(request, f"{model.name} is back.")
    return redirect("model-page", model.name)


@page("POST", role=OPERATOR)
def write_card(request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _find_version(name, number)
    card = request.POST.get("card", "").replace("\r\n", "\n")
    services.set_card(version, card, person(request))
    messages.success(request, "The card is saved.")
    return _back(version)


@page("POST", role=OPERATOR)
def set_alias(request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _find_version(name, number)
    alias = request.POST.get("alias", "").strip().removeprefix("@")
    services.set_alias(version.model, alias, version, person(request))
    messages.success(request, f"@{alias} points at {version}.")
    return _back(version)


@page("POST", role=OPERATOR)
def delete_alias(request: HttpRequest, name: str, alias: str) -> HttpResponse:
    services.delete_alias(services.find_model(name), alias, person(request))
    messages.success(request, f"@{alias} is removed.")
    return redirect("model-page", name)


def _back(version: ModelVersion) -> HttpResponse:
    return redirect(f"/models/{quote(version.model.name)}/?v={version.number}")
