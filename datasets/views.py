"""The pages of datasets: the list with its upload form, and one dataset with its rows."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from datasets import downloads, removal, services, sources
from datasets.access import can_change
from datasets.comparison import Comparison, compare_versions
from datasets.models import Dataset, DatasetVersion
from datasets.statistics import Statistics, find_statistics, request_statistics
from jobs.models import Job
from mlserver.api.permissions import OPERATOR, may_change
from mlserver.lib.errors import AppError, FieldError, Invalid
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from mlserver.pages.paging import list_rows

PREVIEW_ROWS = 100


@page()
def list_page(request: HttpRequest) -> HttpResponse:
    return _list(request)


@page("POST", role=OPERATOR)
def upload(request: HttpRequest) -> HttpResponse:
    try:
        taken = _take(request)
    except AppError as error:
        errors = error.errors or (FieldError(field="file", message=error.detail),)
        return _list(request, errors, status=error.status)
    if isinstance(taken, Job):
        messages.success(request, f"{taken.spec['name']} is being fetched; see below.")
        return redirect("datasets-page")
    version, _ = taken
    for warning in version.schema.get("warnings", []):
        messages.warning(request, warning)
    messages.success(request, f"{version} holds {version.sample_count:,} samples.")
    return redirect("dataset-page", version.dataset.name)


def _take(request: HttpRequest) -> tuple[DatasetVersion, bool] | Job:
    """The file that was chosen, or the one at the address that was typed."""
    file, address = request.FILES.get("file"), request.POST.get("url", "").strip()
    name, target = request.POST.get("name", "").strip(), request.POST.get("target", "").strip()
    owner = person(request)
    if file is not None and not address:
        name = name or str(file.name).rsplit(".", 1)[0]
        return services.add_upload(owner=owner, name=name, upload=file, target=target)
    if address and file is None:
        return sources.register_url(owner=owner, url=address, name=name, target=target)
    message = "Choose a file or give an address, not both."
    if file is None:
        message = "Choose a file, or give the address of one."
    raise Invalid(message, errors=[FieldError(field="file", message=message)])


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
        "downloads": downloads.list_unfinished(),
        "errors": {error.field: error.message for error in errors},
        "typed": request.POST,
        "command": curl(request, "/api/v1/datasets/", options="-F file=@data.csv -F name=my-table"),
    }
    return render(request, "datasets/list.html", context, status=status)


def _search(text: str) -> QuerySet[Dataset]:
    rows = Dataset.objects.select_related("owner").prefetch_related("versions")
    return rows.filter(Q(name__icontains=text)) if text else rows


@page()
def dataset_page(request: HttpRequest, name: str) -> HttpResponse:
    version = _find_version(name, request.GET.get("v", ""))
    dataset = version.dataset
    statistics = find_statistics(version)
    wanted = request.GET.get("page", "1")
    number_of_page = max(1, int(wanted)) if wanted.isdecimal() and len(wanted) < 10 else 1
    context = {
        "dataset": dataset,
        "version": version,
        "versions": dataset.versions.annotate(uses=Count("training_sessions")),
        "statistics": statistics,
        "columns": _columns(version, statistics),
        "comparison": _comparison(version, request.GET.get("against", "")),
        "can_change": can_change(person(request), dataset),
        **_rows(version, number_of_page),
        "command": curl(request, f"/api/v1/datasets/{dataset.name}"),
    }
    return render(request, "datasets/detail.html", context)


def _find_version(name: str, number: str) -> DatasetVersion:
    return services.find_version(f"{name}@{number}" if number else name)


def _columns(version: DatasetVersion, statistics: Statistics) -> list[dict[str, Any]]:
    """What the schema says of each column, with what the statistics add to it."""
    target = version.schema.get("target")
    columns: list[dict[str, Any]] = version.schema.get("columns", [])
    known = {each["name"]: each for each in (statistics.values or {}).get("columns", [])}
    return [
        {**column, "is_target": column["name"] == target, "facts": known.get(column["name"])}
        for column in columns
    ]


def _comparison(version: DatasetVersion, against: str) -> Comparison | None:
    """With the version that was asked for, else with the one before, if there is any."""
    others = version.dataset.versions.exclude(pk=version.pk)
    if against.isdecimal() and len(against) < 10:
        other = others.filter(number=int(against)).first()
    else:
        other = others.filter(number__lt=version.number).order_by("-number").first()
    return None if other is None else compare_versions(other, version)


def _rows(version: DatasetVersion, number: int) -> dict[str, Any]:
    """One page of the preview; when it cannot be read, the page says why and shows the rest."""
    try:
        preview = services.read_preview(version, number, PREVIEW_ROWS)
    except AppError as error:
        return {"preview": None, "preview_error": error.detail}
    first = (number - 1) * PREVIEW_ROWS
    return {
        "preview": preview,
        "rows": [list(zip(row, preview["types"], strict=True)) for row in preview["rows"]],
        "first_row": first + 1,
        "last_row": first + len(preview["rows"]),
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if first + len(preview["rows"]) < preview["total"] else None,
    }


@page("POST", role=OPERATOR)
def delete(request: HttpRequest, name: str) -> HttpResponse:
    entry = removal.delete_dataset(services.find_dataset(name), person(request))
    messages.success(
        request, f"{name} lies in the trash until {entry.kept_until:%d %b %Y}; it can be restored."
    )
    return redirect("datasets-page")


@page("POST", role=OPERATOR)
def cancel_download(request: HttpRequest, job_id: str) -> HttpResponse:
    downloads.cancel_download(job_id, person(request))
    return redirect("datasets-page")


@page("POST", role=OPERATOR)
def restore(request: HttpRequest, name: str) -> HttpResponse:
    dataset = removal.restore_dataset(
        name,
        person(request),
        new_name=request.POST.get("name", "").strip(),
        entry_id=request.POST.get("entry"),
    )
    messages.success(request, f"{dataset.name} is back.")
    return redirect("dataset-page", dataset.name)


@page("POST", role=OPERATOR)
def make_statistics(request: HttpRequest, name: str) -> HttpResponse:
    version = _find_version(name, request.POST.get("v", ""))
    if not version.statistics:
        request_statistics(version, person(request))
    return redirect(f"/datasets/{quote(version.dataset.name)}/?v={version.number}")
