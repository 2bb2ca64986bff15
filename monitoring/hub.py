"""One task a web process reads what is new and hands it to every open stream.

Lives in the event loop; the database is read in one thread of its own, and no cursor or
transaction is open while the loop waits. Keeps the last events for streams that return.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django.db import connections

from mlserver.lib.sse import encode_event
from monitoring.feed import Event, Feed

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], Any]

TICK_SECONDS = 0.25
TROUBLE_SECONDS = 1.0
LINGER_SECONDS = 60  # how long a topic is read on after its last listener left
RING_LENGTH = 5_000
QUEUE_LENGTH = 512
MISSED = {"code": "resync", "message": "Some events were missed; load the history again."}


@dataclass(frozen=True)
class Message:
    """An event as it goes over the wire, numbered within the life of this process."""

    seq: int
    event: Event
    chunk: bytes


@dataclass(eq=False)
class Subscription:
    topics: frozenset[str]
    queue: asyncio.Queue[Message | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=QUEUE_LENGTH)
    )
    """None is the end: the server stops."""

    has_missed: bool = False

    def offer(self, message: Message | None) -> None:
        """A reader that is too slow loses the oldest, and learns that it did."""
        if self.queue.full():
            self.queue.get_nowait()
            self.has_missed = True
        self.queue.put_nowait(message)

    def take_missed(self) -> bool:
        missed, self.has_missed = self.has_missed, False
        return missed


@dataclass
class Followed:
    """A topic that is read, from which number on, and when somebody last listened."""

    since_seq: int
    listened_at: float


class Hub:
    def __init__(
        self, feed: Feed | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.boot_id = secrets.token_hex(4)
        self.subscriptions: set[Subscription] = set()
        self.is_closing = False
        self._feed = feed or Feed()
        self._clock = clock
        self._seq = 0
        self._ring: deque[Message] = deque(maxlen=RING_LENGTH)
        self._followed: dict[str, Followed] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="hub")
        self._task: asyncio.Task[None] | None = None

    async def subscribe(
        self, topics: frozenset[str], last_event_id: str = ""
    ) -> tuple[Subscription, list[Message]]:
        """A place among the listeners, and what to tell the newcomer first."""
        for topic in topics:
            self._followed.setdefault(topic, Followed(self._seq, self._clock()))
            self._followed[topic].listened_at = self._clock()
        snapshot = await self._in_reader(self._feed.open, topics)
        # From here to the end nothing is awaited: no event can fall in between.
        subscription = Subscription(topics)
        self.subscriptions.add(subscription)
        self._keep_running()
        return subscription, self._first_words(topics, snapshot, last_event_id)

    def unsubscribe(self, subscription: Subscription) -> None:
        self.subscriptions.discard(subscription)

    async def tick(self) -> None:
        """One look for all streams."""
        self._forget_unheard()
        if self._followed:
            for event in await self._in_reader(self._feed.read, frozenset(self._followed)):
                self._publish(event)

    def _first_words(
        self, topics: frozenset[str], snapshot: list[Event], last_event_id: str
    ) -> list[Message]:
        now = [self._message(event) for event in snapshot]
        if not last_event_id:
            return now
        missed = self._since(topics, last_event_id)
        if missed is None:
            return [*now, self._message(Event("", "notice", MISSED))]
        return [*missed, *now]

    def _since(self, topics: frozenset[str], last_event_id: str) -> list[Message] | None:
        """What came after that event; None when it can no longer be said."""
        boot_id, _, number = last_event_id.rpartition("-")
        if boot_id != self.boot_id or not number.isdecimal():
            return None
        last = int(number)
        oldest = self._ring[0].seq if self._ring else self._seq + 1
        if last < oldest - 1 or any(last < self._followed[t].since_seq for t in topics):
            return None
        return [m for m in self._ring if m.seq > last and m.event.topic in topics]

    def _publish(self, event: Event) -> None:
        self._seq += 1
        message = self._message(event)
        self._ring.append(message)
        for subscription in self.subscriptions:
            if event.topic in subscription.topics:
                subscription.offer(message)

    def _message(self, event: Event) -> Message:
        """Numbered as the newest: a stream that broke off after it asks for what came later."""
        data = {"topic": event.topic, **event.data}
        chunk = encode_event(event.type, data, f"{self.boot_id}-{self._seq}")
        return Message(self._seq, event, chunk)

    def _forget_unheard(self) -> None:
        now = self._clock()
        for subscription in self.subscriptions:
            for topic in subscription.topics:
                self._followed[topic].listened_at = now
        self._followed = {
            topic: followed
            for topic, followed in self._followed.items()
            if now - followed.listened_at <= LINGER_SECONDS
        }

    def _keep_running(self) -> None:
        if self._task is None or self._task.done():
            # An empty context: the request that happens to be first has threads and
            # connections of its own, which end with it.
            self._task = asyncio.get_running_loop().create_task(
                self._run(), context=contextvars.Context()
            )

    async def _run(self) -> None:
        """Until nobody has listened for a while, or the server stops."""
        try:
            while not self.is_closing and (self._followed or self.subscriptions):
                await self._tick_safely()
            for subscription in self.subscriptions:
                subscription.offer(None)
        finally:
            self._task = None  # whoever comes now starts another
            self._reader.submit(connections.close_all)

    async def _tick_safely(self) -> None:
        try:
            await self.tick()
            await asyncio.sleep(TICK_SECONDS)
        except Exception:  # the edge: a database that is away must not end the streams
            logger.exception("The event hub could not read what is new; it goes on")
            for subscription in self.subscriptions:
                subscription.has_missed = True
            await asyncio.sleep(TROUBLE_SECONDS)

    async def _in_reader(
        self, call: Callable[[frozenset[str]], list[Event]], topics: frozenset[str]
    ) -> list[Event]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, _read, call, topics)


def _read(call: Callable[[frozenset[str]], list[Event]], topics: frozenset[str]) -> list[Event]:
    try:
        return call(topics)
    except Exception:
        connections.close_all()  # it may be broken; the next look opens another
        raise


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def get_hub() -> Hub:
    """The hub of the running loop: one a web process."""
    loop = asyncio.get_running_loop()
    for other in [other for other in _hubs if other.is_closed()]:
        del _hubs[other]  # tests open and close many
    if loop not in _hubs:
        _hubs[loop] = Hub()
        _close_with_server(_hubs[loop])
    return _hubs[loop]


def _close_with_server(hub: Hub) -> None:
    """A server that is asked to stop waits for its streams, so these must learn of it."""
    if threading.current_thread() is not threading.main_thread():
        return  # signals come to the main thread only
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _and_close(hub, handler))


def _and_close(hub: Hub, handler: Handler) -> Handler:
    def close(number: int, frame: FrameType | None) -> None:
        hub.is_closing = True
        handler(number, frame)

    return close
