"""Overview (what runs, what waits, what ended last) and System (the machine, its GPUs)."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from jobs.models import FINAL_STATES, State
from jobs.services import queue_order
from mlserver.api.negotiation import wants_html
from mlserver.api.root import describe_server
from mlserver.lib.errors import NotFound
from mlserver.pages.commands import curl
from mlserver.pages.doors import page
from monitoring.machine import (
    Panel,
    make_cards,
    make_detail_panels,
    make_panels,
    metrics_of,
    name_processes,
    panel_data,
)
from monitoring.models import Alert, ClusterHeartbeat, GpuSample, HardwareEvent
from monitoring.series import read_history
from monitoring.services import (
    CLUSTERS,
    GPU_FIELDS,
    describe_now,
    describe_processes,
    latest_processes,
)
from monitoring.spans import Span, read_span
from monitoring.use import read_days, read_use
from sessions.models import EpochMetric, TrainingSession

SILENT_SECONDS = 60
SHOWN = 8
SHOWN_EVENTS = 50
IDENTITY = ("index", "uuid", "parent_uuid", "name", "vendor", "driver", "cuda_version", "details")
LIVE = "5m"
PAGE_RANGES = {LIVE: "Live", "1h": "1 h", "24h": "24 h", "7d": "7 d"}
SHORTER, USE_SHORTEST = (LIVE, "1h"), "24h"  # who used a GPU is kept by the hour
SCRAPE = """\
scrape_configs:
  - job_name: mlserver
    scheme: {scheme}
    metrics_path: /metrics
    authorization:
      credentials_file: /etc/prometheus/mlserver.key  # manage.py create_key --role viewer
    static_configs:
      - targets: ["{target}"]"""


def root(request: HttpRequest) -> HttpResponse:
    """The page for browsers; for programs what this server is, without a key."""
    answer = overview(request) if wants_html(request) else JsonResponse(describe_server())
    patch_vary_headers(answer, ["Accept"])
    return answer


@page()
def overview(request: HttpRequest) -> HttpResponse:
    context = {
        "sample": describe_now(),
        "silent_clusters": _silent_clusters(),
        "running": _running(),
        "queue": _queue(),
        "ended": list(
            _sessions().filter(job__state__in=FINAL_STATES).order_by("-job__finished_at")[:SHOWN]
        ),
        "command": curl(request, "/api/v1/system/info"),
    }
    return render(request, "monitoring/overview.html", context)


def _sessions() -> Any:
    return TrainingSession.objects.select_related(
        "job__owner", "dataset_version__dataset", "produced__model"
    )


def _silent_clusters() -> list[str]:
    """Clusters that were seen once and not lately; and all, when none was ever seen."""
    long_ago = timezone.now() - timedelta(seconds=SILENT_SECONDS)
    alive = set(
        ClusterHeartbeat.objects.filter(seen_at__gte=long_ago).values_list("cluster", flat=True)
    )
    return [name for name in CLUSTERS if name not in alive]


def _running() -> list[dict[str, Any]]:
    rows = list(_sessions().filter(job__state=State.RUNNING).order_by("job__started_at"))
    losses: dict[str, list[float | None]] = {row.pk: [] for row in rows}
    epochs = EpochMetric.objects.filter(session__in=rows).order_by("epoch")
    for session_id, loss in epochs.values_list("session_id", "loss"):
        losses[session_id].append(loss)
    return [{"session": row, "losses": losses[row.pk][-60:], "left": _left(row)} for row in rows]


def _left(session: TrainingSession) -> float | None:
    job = session.job
    if not job.started_at or job.progress <= 0:
        return None
    spent = (timezone.now() - job.started_at).total_seconds()
    return spent * (100 - job.progress) / job.progress


def _queue() -> list[TrainingSession]:
    order = queue_order("train")[:SHOWN]
    found = {row.pk: row for row in _sessions().filter(pk__in=order)}
    return [found[pk] for pk in order if pk in found]


# --- System -----------------------------------------------------------------------------------


@page()
def system_page(request: HttpRequest) -> HttpResponse:
    sample, table = describe_now(), describe_processes(latest_processes())
    span = _read_span(request)
    panels = make_panels(sample)
    history = _history_query(panels, span)
    context = {
        "sample": sample,
        "cards": make_cards(sample["gpus"], table["results"]),
        "processes": name_processes(table["results"], sample["gpus"]),
        "process_reasons": table["reasons"],
        "ranges": PAGE_RANGES,
        "span": span,
        "panels": panels,
        "data": panel_data(panels, span),
        "history": history,
        "scrape": _scrape_config(request),
        "command": curl(request, f"/api/v1/system/history?{history}"),
    }
    return render(request, "monitoring/system.html", context)


@page()
def gpu_page(request: HttpRequest, uuid: str) -> HttpResponse:
    sample, table = describe_now(), describe_processes(latest_processes())
    gpu = _find_gpu(sample, uuid)
    parts = [one for one in sample["gpus"] if one["parent_uuid"] == uuid]
    # Shown as a whole GPU is, also where it is a part of one.
    own = [{**gpu, "parent_uuid": ""}, *parts]
    span = _read_span(request)
    whole = gpu["parent_uuid"] or uuid
    used_in = read_span({"range": USE_SHORTEST}, "") if span.label in SHORTER else span
    panels = make_detail_panels(gpu)
    context = {
        "sample": sample,
        "gpu": gpu,
        "cards": make_cards(own, table["results"]),
        "facts": _facts(gpu),
        "processes": name_processes(
            [one for one in table["results"] if one["gpu_uuid"] in {g["uuid"] for g in own}], own
        ),
        "process_reasons": table["reasons"],
        "uses": read_use(whole, used_in),
        "days": read_days(whole, used_in),
        "used_in": used_in,
        "no_energy": gpu["reasons"].get("energy_joules", ""),
        "events": list(HardwareEvent.objects.filter(uuid=uuid)[:SHOWN_EVENTS]),
        "alerts": list(Alert.objects.shown().filter(subject=uuid)[:SHOWN_EVENTS]),
        "ranges": PAGE_RANGES,
        "span": span,
        "panels": panels,
        "data": panel_data(panels, span),
        "history": _history_query(panels, span),
        "command": curl(request, f"/api/v1/system/gpus/{whole}/use"),
    }
    return render(request, "monitoring/gpu.html", context)


def _find_gpu(sample: dict[str, Any], uuid: str) -> dict[str, Any]:
    """As it is now; while the sampler is silent only what it is, without readings."""
    for gpu in sample["gpus"]:
        if gpu["uuid"] == uuid:
            return dict(gpu)
    last = GpuSample.objects.filter(uuid=uuid).order_by("-id").first()
    if last is None or not sample["is_stale"]:
        why = sample["gpu_reason"] or "The page System lists those that are there."
        raise NotFound(f"There is no GPU {uuid[:80]}. {why}")
    identity = {name: getattr(last, name) for name in IDENTITY}
    silent = dict.fromkeys(GPU_FIELDS)
    return {**silent, **identity, "limits": [], "reasons": {"gpu": sample["gpu_reason"]}}


def _read_span(request: HttpRequest) -> Span:
    """Raises Invalid for times that are none; a range that no page has is the live one."""
    if not request.GET.get("start") and request.GET.get("range") not in PAGE_RANGES:
        return read_span({"range": LIVE}, LIVE)
    return read_span(request.GET, LIVE)


def _history_query(panels: list[Panel], span: Span) -> str:
    metrics = urlencode({"metrics": ",".join(metrics_of(panels))}, safe=",:")
    return f"{span.query}&{metrics}"


def _facts(gpu: dict[str, Any]) -> list[tuple[str, Any]]:
    """What does not move: identity, driver, modes, error counts."""
    known = [("UUID", gpu["uuid"]), ("Driver", gpu["driver"]), ("CUDA", gpu["cuda_version"])]
    known += [(name.replace("_", " "), value) for name, value in gpu["details"].items()]
    return [(name, _words(value)) for name, value in known if value not in (None, "")]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_words(one)}" for key, one in value.items())
    return str(value)


@page()
def history_csv(request: HttpRequest) -> HttpResponse:
    """What the charts show, a row a bucket: mean, minimum and maximum of each metric."""
    span = _read_span(request)
    names = [name for name in request.GET.get("metrics", "").split(",") if name]
    series = read_history(names, span.start, span.end)["series"]
    answer = HttpResponse(content_type="text/csv")
    name = f"history-{span.label or span.start.date()}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(answer)
    parts = ("mean", "min", "max")
    writer.writerow(["time", *(f"{name} {part}" for name in series for part in parts)])
    times = next(iter(series.values()))["timestamps"] if series else []
    for place, time in enumerate(times):
        moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
        cells = [one[part][place] for one in series.values() for part in parts]
        writer.writerow([moment, *cells])
    return answer


def _scrape_config(request: HttpRequest) -> str:
    return SCRAPE.format(scheme=request.scheme, target=request.get_host())
