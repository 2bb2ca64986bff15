"""Distributions as small inline SVG: no script, no style attribute."""

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from mlserver.templatetags.display import sig3

register = template.Library()

WIDTH, HEIGHT = 120, 26


@register.simple_tag
def histogram(data: Mapping[str, Any] | None, name: str) -> str | SafeString:
    """Bars of equal width for {counts, edges}; nothing where there is nothing to show."""
    if not data or not data["counts"]:
        return ""
    counts, edges = data["counts"], data["edges"]
    width = WIDTH / len(counts)
    bars = format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}"/>',
        (
            (f"{place * width:.1f}", f"{HEIGHT - tall:.1f}", f"{max(1, width - 1):.1f}", tall)
            for place, tall in enumerate(_heights(counts))
        ),
    )
    label = f"{name}: {sum(counts):,} values from {sig3(edges[0])} to {sig3(edges[-1])}"
    return format_html(
        '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        "<title>{}</title>{}</svg>",
        WIDTH,
        HEIGHT,
        label,
        label,
        bars,
    )


def _heights(counts: list[int]) -> list[float]:
    """What is there at all can be seen: at least one unit high."""
    most = max(counts)
    return [round(max(1.0, count / most * HEIGHT), 1) if count else 0.0 for count in counts]
