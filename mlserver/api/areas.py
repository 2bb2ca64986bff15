"""The areas of the API: what a key's scopes name, and what ALLOW_ANONYMOUS opens.

The area of an address is its first word after /api/v1/; a few have another name.
"""

from __future__ import annotations

API_ROOT = "/api/v1/"
AREAS = (
    "auth",
    "audit",
    "compile",
    "datasets",
    "deployments",
    "experiments",
    "inference",
    "jobs",
    "metrics",
    "models",
    "sessions",
    "styles",
    "system",
    "training",
    "webhooks",
)
OPENABLE = ("inference", "models", "training", "metrics")
"""What ALLOW_ANONYMOUS may name."""

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "me": (),  # who am I: every key may ask
    "config": ("system",),
    "generate": ("styles",),
    "predict": ("inference",),
    "results": ("jobs",),
    "stream": ("sessions", "system"),
    "train": ("styles",),
    "uploads": (),  # what becomes of a file needs the area of that
    "v1": ("inference",),
    "v2": ("inference",),
}


def areas_of(path: str) -> tuple[str, ...]:
    """The areas that an address belongs to; all of them are needed."""
    word = path.removeprefix(API_ROOT).strip("/").partition("/")[0]
    return ELSEWHERE.get(word, (word,))
