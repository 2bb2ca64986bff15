"""The built-in corpora: made on this machine, by a child that takes its seconds, and kept once.

Which work looks after the child is for the caller to say; each look here is a short one.
"""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from datasets.models import Dataset, DatasetVersion
from datasets.services import publish_builtin
from mlserver.lib.background import BackgroundChild
from mlserver.lib.children import GIB
from mlserver.lib.errors import Conflict
from mlserver.lib.files import INCOMING

CPU_SECONDS = 600
MEMORY_BYTES = 4 * GIB


class CorpusChild:
    """The making of one corpus, known by `key`: whoever has the key may look after it."""

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        # On the volume of the datasets, so that a rename puts the version in its place.
        self.child = BackgroundChild(settings.DATASETS_DIR / INCOMING / f"{key}-{name}")

    @property
    def _made(self) -> Path:
        return self.child.folder / "version"

    def look(self, most_files: int | None) -> DatasetVersion | None:
        """Start the child, or see that it still works: None; or publish what it made.

        Raises ChildRefused, ChildFailed, and Conflict where a person took the name.
        """
        found = find_corpus(self.name)
        if found is not None:
            return found
        if not self.child.has_begun():
            payload = {"name": self.name, "folder": str(self._made), "most_files": most_files}
            self.child.start("corpus", payload, cpu_seconds=CPU_SECONDS, memory_bytes=MEMORY_BYTES)
            return None
        if self.child.is_running():
            return None
        try:
            return publish_builtin(self.name, self._made, self.child.answer(), None)
        finally:
            self.child.remove()

    def stop(self) -> None:
        self.child.stop()
        self.child.remove()


def find_corpus(name: str) -> DatasetVersion | None:
    """Its newest version; Conflict where the name is that of somebody's own dataset."""
    dataset = Dataset.objects.filter(name=name).first()
    if dataset is None:
        return None
    if not dataset.is_builtin:
        raise Conflict(f"{name} is the name of somebody's own dataset; rename that one first.")
    return dataset.versions.select_related("dataset").first()
