"""How many event streams a web process may have open: each holds a thread of the server."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self
from weakref import WeakSet

from django.conf import settings

from mlserver.lib.errors import Unavailable


class Place:
    """Taken until it is left, or forgotten by all: a stream may never begin, because its reader
    went away before the answer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _taken.discard(self)


_taken: WeakSet[Place] = WeakSet()
_taking = threading.Lock()


def take_place() -> Place:
    """Asked before the stream is promised, so that of many at once none gets a place too many.

    Raises Unavailable.
    """
    with _taking:
        if len(_taken) >= settings.MAX_EVENT_STREAMS:
            raise Unavailable(
                f"{settings.MAX_EVENT_STREAMS} event streams are open, as many as "
                "MAX_EVENT_STREAMS allows; close one, or ask again later instead of listening."
            )
        place = Place()
        _taken.add(place)
        return place
