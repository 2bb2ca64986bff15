"""From a model's name to its worker: rows are remembered for a second, connections are kept.

After half a second a row is looked up again behind the scenes, so that nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from inference.client import NotAnswering, Pool
from inference.models import LoadedModel
from inference.plane.threads import in_thread
from inference.services import find_ready
from ml.serve.frames import Frame, Header

SECONDS = 1.0
RENEW_SECONDS = 0.5
MOST_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Known:
    loaded: LoadedModel
    looked_at: float


class Workers:
    """For one event loop."""

    def __init__(self) -> None:
        self._pool = Pool()
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._looking: dict[str, asyncio.Task[LoadedModel]] = {}

    def __contains__(self, reference: str) -> bool:
        """Whether it was found when somebody asked last."""
        return reference in self._known

    async def find(self, reference: str) -> LoadedModel:
        """One that is ready, with its version and model. Raises what `find_ready` does."""
        known = self._known.get(reference)
        age = SECONDS if known is None else time.monotonic() - known.looked_at
        if age >= RENEW_SECONDS and reference not in self._looking:
            task = self._looking[reference] = asyncio.create_task(self._look_up(reference))
            task.add_done_callback(lambda done: self._looked(reference, done))
        if known is not None and age < SECONDS:
            return known.loaded
        return await asyncio.shield(self._looking[reference])  # others may wait for it, too

    async def ask(
        self,
        loaded: LoadedModel,
        body: bytes | memoryview,
        *,
        timeout_seconds: float,
        **header: Any,
    ) -> Frame:
        """A prediction, or another `kind`, as ml.serve.frames has it. Raises AppError."""
        path = _socket_path(loaded.socket)
        try:
            worker = await self._pool.get(path)
            return await worker.predict(body, timeout_seconds=timeout_seconds, **header)
        except NotAnswering:
            self._forget(loaded)
            raise

    async def stream(
        self, loaded: LoadedModel, header: Header, body: bytes, *, timeout_seconds: float
    ) -> AsyncGenerator[Frame]:
        """As Connection.stream has it."""
        path = _socket_path(loaded.socket)
        try:
            worker = await self._pool.get(path)
            stream = worker.stream(header, body, timeout_seconds=timeout_seconds)
            async with aclosing(stream) as frames:
                async for frame in frames:
                    yield frame
        except NotAnswering:
            self._forget(loaded)
            raise

    async def _look_up(self, reference: str) -> LoadedModel:
        started = time.monotonic()
        loaded: LoadedModel = await in_thread(find_ready, reference)
        self._known[reference] = Known(loaded, started)
        self._known.move_to_end(reference)
        if len(self._known) > MOST_NAMES:
            self._known.popitem(last=False)
        return loaded

    def _looked(self, reference: str, task: asyncio.Task[LoadedModel]) -> None:
        del self._looking[reference]
        if task.cancelled() or task.exception():  # whoever waits has it, the next one looks anew
            self._known.pop(reference, None)

    def _forget(self, loaded: LoadedModel) -> None:
        """Its worker is gone: the next request looks who took its place."""
        for reference, known in list(self._known.items()):
            if known.loaded.pk == loaded.pk:
                del self._known[reference]


@lru_cache(maxsize=256)
def _socket_path(name: str) -> Path:
    return Path(settings.SOCKETS_DIR / name)


workers = Workers()
"""A web process has one event loop."""
