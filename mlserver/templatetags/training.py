"""Words and units of a training step."""

from django import template

register = template.Library()

PARTS = {
    "data_seconds": "data",
    "compute_seconds": "forward and backward",
    "optimizer_seconds": "optimizer",
}


@register.filter
def part(name: str) -> str:
    """What a step does in that time."""
    return PARTS[name]


@register.filter
def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"
