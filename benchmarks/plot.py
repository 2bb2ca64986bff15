"""Bars as an SVG file; no library needed."""

from collections.abc import Callable, Mapping
from html import escape

WIDTH, BAR = 900, 22


def draw(
    scenes: Mapping[str, Mapping[str, float]], told: Callable[[float], str], label: int = 200
) -> str:
    """One group of bars for each scene, the longest first; `label` pixels are for their names."""
    parts: list[str] = []
    top = 10
    for scene, rates in scenes.items():
        parts.append(_text(10, top + 16, scene, "bold"))
        top += 26
        most = max(rates.values(), default=1.0)
        for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
            width = (WIDTH - label - 120) * rate / most
            parts.append(_text(10, top + 15, name))
            parts.append(
                f'<rect x="{label}" y="{top}" width="{width:.1f}" height="{BAR - 4}"'
                ' fill="#3b6ea5"/>'
            )
            parts.append(_text(label + width + 8, top + 15, told(rate)))
            top += BAR
        top += 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}"'
        f' font-family="sans-serif" font-size="13">{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{escape(text)}</text>'
