"""What a worker is told when it starts: the model, its files, its limits. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Spec:
    folder: Path
    files: tuple[Mapping[str, Any], ...] | None = None
    """Every file in the folder, [{path, size_bytes, sha256}]; None: taken as they are."""
    device: str = "cpu"
    threads: int = 1
    optimization_level: int = 2
    limits: Mapping[str, int] = field(default_factory=dict)
    """As ml.serve.batcher.Limits has them."""
    memory_bytes: int | None = None
    """Largest address space; of no use with CUDA, which reserves more than there is."""
    parent: int | None = None
    """The process to die with; None for a worker started by hand."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        files = values.get("files")
        known = {**values, "folder": Path(values["folder"]).resolve()}
        return cls(**{**known, "files": None if files is None else tuple(files)})
