"""A model that is asked for and not in memory is loaded, if whoever asks may load it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from inference.client import NotAnswering
from inference.models import LoadedModel
from inference.plane.threads import in_thread
from inference.plane.workers import workers
from inference.services import NotLoaded, request_loading
from mlserver.api.permissions import OPERATOR, has_role

LONGEST_SECONDS = 60.0
"""What loads for longer is answered with 503, and loads on."""
LOOK_SECONDS = 0.1


async def find_or_load(reference: str, by: Any) -> LoadedModel:
    """One that is ready. Raises NotLoaded for those who may not load, LoadFailed and NoSpace where
    it cannot be loaded, NotAnswering where that takes too long."""
    try:
        return await workers.find(reference)
    except NotLoaded:
        if not has_role(by, OPERATOR):
            raise
        await in_thread(request_loading, reference, by)
    except NotAnswering:  # somebody else has just asked for it
        pass
    return await _wait(reference)


async def _wait(reference: str) -> LoadedModel:
    ends_at = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            return await workers.find(reference)
        except NotAnswering:
            if time.monotonic() >= ends_at:
                raise
        await asyncio.sleep(LOOK_SECONDS)
