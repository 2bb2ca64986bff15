"""What a session leaves on disk beside its model: artifacts and checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml.rundir import RunDir
from mlserver.lib.errors import NotFound
from mlserver.lib.files import find_inside
from sessions.models import Artifact, TrainingSession

# File name in the run directory → type; the journal and the logs exist once an attempt.
KEPT = {
    "config.json": "config",
    "result.json": "result",
    "exit.json": "exit",
    "launcher.log": "log",
    "attempt-*/events.jsonl": "journal",
    "attempt-*/stdout.log": "log",
    "attempt-*/stderr.log": "log",
}


def record_artifacts(session: TrainingSession) -> None:
    """Write down what is there now; called when a session has ended."""
    Artifact.objects.bulk_create(
        _artifacts(session),
        update_conflicts=True,
        unique_fields=["session", "name"],
        update_fields=["path", "size_bytes", "sha256", "type"],
    )


def _artifacts(session: TrainingSession) -> Iterator[Artifact]:
    for pattern, kind in KEPT.items():
        for path in sorted(session.run_path.glob(pattern)):
            if path.stat().st_size == 0:
                continue  # a log in which nothing was said
            name = str(path.relative_to(session.run_path))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            yield Artifact(
                session=session,
                name=name,
                path=name,
                size_bytes=path.stat().st_size,
                sha256=sha256,
                type=kind,
            )


def find_artifact(session: TrainingSession, name: str) -> tuple[Artifact, Path]:
    """A recorded artifact and its file; no other name is looked for on disk."""
    artifact = session.artifacts.filter(name=name).first()
    path = find_inside(session.run_path, artifact.path) if artifact else None
    if artifact is None or path is None:
        raise NotFound(f"{session.pk} has no artifact {name!r}; see its artifacts/.")
    return artifact, path


def list_checkpoints(session: TrainingSession) -> list[dict[str, Any]]:
    """The whole ones, oldest first: {name, step, size_bytes, is_best}."""
    best = Path((session.summary.get("best_checkpoint") or {}).get("path") or "").name
    return [
        {
            "name": folder.name,
            "step": int(folder.name.removeprefix("step-")),
            "size_bytes": sum(file.stat().st_size for file in folder.iterdir()),
            "is_best": folder.name == best,
        }
        for folder in RunDir(session.run_path).complete_checkpoints()
    ]
