"""What the System page shows of one machine: GPU cards with owners, the processes, the charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ml.hardware.readings import LIMITS
from monitoring.spans import Span
from sessions.models import TrainingSession

GIB, MB = 2**30, 1e6
TOKENS = ("--series-1", "--series-2", "--series-3", "--series-4")
MOST_OWNERS = 4  # with a colour of their own; the rest is one more
NOT_SEEN = "driver, or not visible"

Fields = dict[str, Any]


# --- Who holds which memory -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the memory bar: `start` and `width` in percent of the whole memory."""

    owner: str
    label: str
    size_bytes: int
    start: float
    width: float
    shade: str
    session: str | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU or a MIG instance, with what the page draws beside its numbers."""

    gpu: Fields
    segments: list[Segment]
    limits: list[Fields]
    link: str
    lost: str | None
    instances: list[Card] = field(default_factory=list)


def make_cards(gpus: Sequence[Fields], processes: Sequence[Fields]) -> list[Card]:
    """Whole GPUs in order; each carries its MIG instances."""
    names = _session_names(processes)
    wholes = [gpu for gpu in gpus if not gpu["parent_uuid"]]
    return [
        _card(
            gpu,
            processes,
            names,
            [_card(one, processes, names) for one in gpus if one["parent_uuid"] == gpu["uuid"]],
        )
        for gpu in wholes
    ]


def _card(
    gpu: Fields,
    processes: Sequence[Fields],
    names: dict[str, str],
    instances: Sequence[Card] = (),
) -> Card:
    active = {limit["code"] for limit in gpu["limits"]}
    return Card(
        gpu=gpu,
        segments=split_memory(gpu, processes, names),
        limits=[
            {"word": word, "text": limit.text, "level": limit.level, "is_on": word in active}
            for word, limit in LIMITS.items()
            if word != "idle"
        ],
        link=_degraded_link(gpu["details"]),
        lost=gpu["reasons"].get("gpu"),
        instances=list(instances),
    )


def split_memory(gpu: Fields, processes: Iterable[Fields], names: dict[str, str]) -> list[Segment]:
    """The largest owners first, at last what the driver counts and no process explains."""
    total, used = gpu["memory_total_bytes"], gpu["memory_used_bytes"]
    if not total or used is None:
        return []
    sizes: dict[str, tuple[int, str, str | None]] = {}
    for one in processes:
        if one["gpu_uuid"] == gpu["uuid"] and one["gpu_memory_bytes"]:
            owner, label = name_owner(one, names)
            sizes[owner] = (
                sizes.get(owner, (0,))[0] + one["gpu_memory_bytes"],
                label,
                one["session"],
            )
    rows = sorted(sizes.items(), key=lambda row: row[1][0], reverse=True)
    explained = sum(size for _, (size, _, _) in rows)
    rows.append(("", (max(0, used - explained), NOT_SEEN, None)))
    return list(_place(rows, total))


def _place(
    rows: Iterable[tuple[str, tuple[int, str, str | None]]], total: int
) -> Iterable[Segment]:
    start = 0.0
    for place, (owner, (size, label, session)) in enumerate(rows):
        width = min(100 * size / total, 100 - start)
        shade = f"s{min(place, MOST_OWNERS) + 1}" if owner else "rest"
        yield Segment(
            owner=owner,
            label=label,
            size_bytes=size,
            start=round(start, 2),
            width=round(width, 2),
            shade=shade,
            session=session,
        )
        start += width


def name_owner(process: Fields, names: dict[str, str]) -> tuple[str, str]:
    """A key that stays the same, and words: the session and its person, or the command."""
    if process["session"]:
        title = names.get(process["session"], process["session"])
        return process["session"], f"{title} · {process['owner'] or 'nobody'}"
    command = str(process["command"] or f"PID {process['pid']}").split()[0].rpartition("/")[2]
    return f"pid {process['pid']}", f"{command} · {process['user'] or 'user unknown'}"


def _session_names(processes: Iterable[Fields]) -> dict[str, str]:
    ids = {one["session"] for one in processes if one["session"]}
    rows = TrainingSession.objects.filter(pk__in=ids) if ids else []
    return {row.pk: row.title for row in rows}


def _degraded_link(details: Fields) -> str:
    """Words where the PCIe link is slower than it could be; cards idle at a lower speed, so
    only the width counts."""
    width, best = details.get("pcie_width"), details.get("pcie_width_max")
    return f"PCIe ×{width} of ×{best}" if width and best and width < best else ""


# --- Processes ------------------------------------------------------------------------------


def name_processes(processes: Sequence[Fields], gpus: Iterable[Fields]) -> list[Fields]:
    """With the title of the session and the number of the GPU, those on GPUs first."""
    names = _session_names(processes)
    index = {gpu["uuid"]: gpu["index"] for gpu in gpus}
    rows = [
        {**one, "title": names.get(one["session"] or ""), "gpu": index.get(one["gpu_uuid"])}
        for one in processes
    ]
    return sorted(rows, key=lambda row: (row["gpu"] is None, row["gpu"] or 0, _weight(row)))


def _weight(row: Fields) -> tuple[int, float]:
    return -(row["gpu_memory_bytes"] or 0), -(row["cpu_percent"] or 0)


# --- Charts ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Line:
    """`metric` names the history, `path` the same number in the event `sample`."""

    metric: str
    label: str
    path: str
    gpu: str = ""
    scale: float = 1
    token: str = TOKENS[0]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """`top`: where the axis ends at least; `limits`: thin dashed lines."""

    id: str
    title: str
    unit: str
    lines: list[Line]
    top: float | None = None
    limits: list[Fields] = field(default_factory=list)


def make_panels(sample: Fields) -> list[Panel]:
    """One chart a measure; the GPUs share it, a line each."""
    gpus = [gpu for gpu in sample["gpus"] if not gpu["parent_uuid"]]
    total = sample["memory"]["total_bytes"]
    host = [
        Panel(
            id="cpu", title="CPU", unit="%", top=100, lines=[_host("cpu_percent", "cpu.percent")]
        ),
        Panel(
            id="memory",
            title="Memory",
            unit="GiB",
            top=total / GIB if total else None,
            lines=[_host("memory_used_bytes", "memory.used_bytes", "used", GIB)],
        ),
        _rates("disk", "Disk", ("read", "write"), ("disk_read", "disk_write")),
        _rates("network", "Network", ("received", "sent"), ("network_received", "network_sent")),
    ]
    return [*make_gpu_panels(gpus), *host]


def make_gpu_panels(gpus: Sequence[Fields]) -> list[Panel]:
    if not gpus:
        return []
    return [
        _gpus(gpus, "busy_percent", "GPU busy", "%", top=100),
        _gpus(
            gpus,
            "memory_used_bytes",
            "VRAM",
            "GiB",
            GIB,
            top=max((gpu["memory_total_bytes"] or 0) for gpu in gpus) / GIB or None,
        ),
        _gpus(gpus, "temperature_celsius", "Temperature", "°C", limit="temperature_limit_celsius"),
        _gpus(gpus, "power_watts", "Power", "W", limit="power_limit_watts"),
    ]


def make_detail_panels(gpu: Fields) -> list[Panel]:
    """All that is measured of one GPU; only what it does report."""
    more = [
        ("sm_active_percent", "SM active", "%", 1.0),
        ("tensor_active_percent", "Tensor cores active", "%", 1.0),
        ("memory_active_percent", "Memory interface active", "%", 1.0),
        ("clock_sm_mhz", "SM clock", "MHz", 1.0),
        ("clock_memory_mhz", "Memory clock", "MHz", 1.0),
        ("fan_percent", "Fan", "%", 1.0),
        ("pcie_received_bytes_per_second", "PCIe received", "MB/s", MB),
        ("pcie_sent_bytes_per_second", "PCIe sent", "MB/s", MB),
    ]
    known = [one for one in more if gpu.get(one[0]) is not None]
    return [
        *make_gpu_panels([gpu]),
        *(_gpus([gpu], name, title, unit, scale) for name, title, unit, scale in known),
    ]


def panel_data(panels: Iterable[Panel], span: Span) -> Fields:
    """For the page's script."""
    return {
        "range": span.label,
        "query": span.query,
        "seconds": span.seconds,
        "panels": [asdict(panel) for panel in panels],
    }


def metrics_of(panels: Iterable[Panel]) -> list[str]:
    return [line.metric for panel in panels for line in panel.lines]


def _host(metric: str, path: str, label: str = "", scale: float = 1, place: int = 0) -> Line:
    return Line(metric=metric, label=label or "busy", path=path, scale=scale, token=TOKENS[place])


def _rates(group: str, title: str, words: tuple[str, str], names: tuple[str, str]) -> Panel:
    lines = [
        _host(
            f"{name}_bytes_per_second",
            f"{group}.{name.removeprefix(group + '_')}_bytes_per_second",
            word,
            MB,
            place,
        )
        for place, (word, name) in enumerate(zip(words, names, strict=True))
    ]
    return Panel(id=group, title=title, unit="MB/s", lines=lines)


def _gpus(
    gpus: Sequence[Fields],
    name: str,
    title: str,
    unit: str,
    scale: float = 1,
    *,
    top: float | None = None,
    limit: str = "",
) -> Panel:
    lines = [
        Line(
            metric=f"gpu.{gpu['uuid']}.{name}",
            label=f"GPU {gpu['index']}",
            path=name,
            gpu=gpu["uuid"],
            scale=scale,
            token=TOKENS[place % len(TOKENS)],
        )
        for place, gpu in enumerate(gpus)
    ]
    values = sorted({gpu[limit] for gpu in gpus if gpu.get(limit)}) if limit else []
    limits = [{"value": value, "label": f"limit {value:.0f} {unit}"} for value in values]
    return Panel(id=f"gpu-{name}", title=title, unit=unit, lines=lines, top=top, limits=limits)
