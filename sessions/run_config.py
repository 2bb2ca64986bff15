"""The configuration as the trainer reads it: names have become places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets.models import DatasetVersion
from sessions.bases import locate_base


def run_config(
    session_id: str, config: Mapping[str, Any], version: DatasetVersion | None
) -> dict[str, Any]:
    """What config.json of a run directory holds."""
    if version is None:
        raise RuntimeError(f"{session_id} has no dataset version")
    reference: dict[str, Any] = {
        "path": str(version.folder),
        "format": version.format,
        "target": config.get("target") or version.schema.get("target"),
        "name": version.dataset.name,
        "version": version.number,
    }
    located: dict[str, Any] = {"session": session_id, "dataset": reference}
    if base := config.get("base_model"):
        located["base_model"] = locate_base(base)
    return {**config, **located}
