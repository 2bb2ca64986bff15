"""Exact values in, what a person reads out. Formatting happens here and nowhere earlier."""

import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

NONE = "–"
Missing: TypeAlias = Literal[""]  # what a template hands over for a name that is not there
TIME_STYLES = {"clock": "%H:%M:%S", "short": "%d %b, %H:%M", "full": "%d %b %Y, %H:%M UTC"}
CONFUSION_LEVELS = ((0.5, 4), (0.2, 3), (0.05, 2), (0.0, 1))
SPARK_WIDTH, SPARK_HEIGHT = 90, 22


@register.filter
def sig3(value: float | Missing | None) -> str:
    """Three significant digits: 0.0123, 1.20e−4, 12.3, 1,234."""
    if value is None or value == "" or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e−{abs(int(exponent))}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"


@register.filter
def percent(value: float | Missing | None) -> str:
    """A value that is already in percent."""
    return NONE if value is None or value == "" else f"{value:.{0 if value >= 99.95 else 1}f}"


@register.filter
def share(value: float | Missing | None) -> str:
    """0 to 1 as percent, without the sign."""
    return NONE if value is None or value == "" else f"{value * 100:.1f}"


@register.filter
def whole(value: float | Missing | None) -> str:
    return NONE if value is None or value == "" else f"{value:.0f}"


@register.filter
def two(value: float | Missing | None) -> str:
    return NONE if value is None or value == "" else f"{value:.2f}"


@register.filter
def integer(value: float | Missing | None) -> str:
    return NONE if value is None or value == "" else f"{value:,.0f}"


@register.filter
def gib(value: float | Missing | None) -> str:
    """Bytes as GiB without the unit, never jumping in width."""
    if value is None or value == "":
        return NONE
    size = value / 2**30
    return f"{size:.{2 if size < 10 else 1 if size < 100 else 0}f}"


@register.filter
def mb(value: float | Missing | None) -> str:
    """Bytes (a second) as MB without the unit."""
    return NONE if value is None or value == "" else f"{value / 1e6:.{2 if value < 1e7 else 1}f}"


@register.filter
def filesize(value: int | Missing | None) -> str:
    if value is None or value == "":
        return NONE
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


@register.filter
def duration(seconds: float | Missing | None) -> str:
    if seconds is None or seconds == "":
        return NONE
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@register.filter
def when(moment: datetime | None, style: str = "full") -> str | SafeString:
    """UTC here; live.js puts it into the reader's zone and keeps UTC as the tooltip."""
    if not moment:
        return NONE
    moment = moment.astimezone(timezone.get_default_timezone())
    shown = f"{moment:{TIME_STYLES[style]}}"
    return format_html(
        '<time datetime="{}" data-style="{}" title="{} UTC">{}</time>',
        moment.isoformat(timespec="milliseconds"),
        style,
        f"{moment:%Y-%m-%d %H:%M:%S}",
        shown,
    )


@register.filter
def key(mapping: dict[str, Any] | None, name: str) -> Any:
    """mapping[name], where the name is not an identifier."""
    return (mapping or {}).get(name)


@register.filter
def as_json(value: Any) -> str:
    """For reading; autoescape makes it safe."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def cell(value: Any) -> str:
    """One value of a dataset row."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)[:80]
    return str(value)[:200]


@register.simple_tag
def heat(row: Sequence[int], count: int) -> str:
    """The class of one cell of a confusion matrix, by its share of the row."""
    part = count / max(1, sum(row))
    level = next((level for low, level in CONFUSION_LEVELS if part > low), 0)
    return f"h{level}"


@register.simple_tag
def sparkline(values: Iterable[float | None], label: str) -> str | SafeString:
    """A small curve as SVG; nothing where two values are not there yet."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    step = (SPARK_WIDTH - 2) / (len(known) - 1)
    points = " ".join(
        f"{1 + index * step:.1f},{2 + (high - value) / span * (SPARK_HEIGHT - 4):.1f}"
        for index, value in enumerate(known)
    )
    return format_html(
        '<svg class="sparkline" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg>',
        SPARK_WIDTH,
        SPARK_HEIGHT,
        label,
        points,
    )


@register.filter
def is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict)
