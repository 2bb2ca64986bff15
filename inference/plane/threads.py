"""Where the data plane asks the database: a few threads, so that the event loop never waits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connections

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="plane")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The threads keep their connections; one that broke is opened anew the next time."""

    def call() -> T:
        try:
            return function(*args, **kwargs)
        except (OperationalError, InterfaceError):
            connections.close_all()
            raise

    context = contextvars.copy_context()  # whose request it is
    return await asyncio.get_running_loop().run_in_executor(_pool, context.run, call)
