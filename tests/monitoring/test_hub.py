import asyncio
import signal
from collections.abc import Coroutine, Set
from typing import Any

import pytest

from monitoring import hub as hub_module
from monitoring.feed import Event, Feed
from monitoring.hub import Hub, Message, get_hub


class FakeFeed(Feed):
    """Tells what the test puts in."""

    def __init__(self) -> None:
        self.waiting: list[Event] = []
        self.standing: list[Event] = []
        self.asked: list[Set[str]] = []
        self.broken = False

    def open(self, topics: Set[str]) -> list[Event]:
        return [event for event in self.standing if event.topic in topics]

    def read(self, topics: Set[str]) -> list[Event]:
        self.asked.append(topics)
        if self.broken:
            raise RuntimeError("the database is away")
        events, self.waiting = self.waiting, []
        return events


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own task looks so seldom that tests turn it by hand."""
    monkeypatch.setattr(hub_module, "TICK_SECONDS", 3600)


def tick_of(topic: str, number: int) -> Event:
    return Event(topic, "sample", {"n": number})


def numbers(messages: list[Message]) -> list[int]:
    return [message.event.data["n"] for message in messages]


def queued(subscription: hub_module.Subscription) -> list[Message]:
    found = [subscription.queue.get_nowait() for _ in range(subscription.queue.qsize())]
    return [message for message in found if message is not None]


async def next_number(subscription: hub_module.Subscription) -> int:
    message = await subscription.queue.get()
    assert message is not None
    return int(message.event.data["n"])


async def publish(hub: Hub, feed: FakeFeed, *events: Event) -> None:
    feed.waiting += events
    await hub.tick()


def last_id(hub: Hub, message: Message) -> str:
    return f"{hub.boot_id}-{message.seq}"


def test_every_listener_of_a_topic_gets_the_event_and_others_do_not() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        hub = Hub(feed)
        one, _ = await hub.subscribe(frozenset({"a"}))
        two, _ = await hub.subscribe(frozenset({"a", "b"}))
        three, _ = await hub.subscribe(frozenset({"b"}))
        await publish(hub, feed, tick_of("a", 1))
        assert [len(queued(each)) for each in (one, two, three)] == [1, 1, 0]

    run(scenario())


def test_one_look_serves_all_streams() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        hub = Hub(feed)
        for topic in ("a", "b", "a"):
            await hub.subscribe(frozenset({topic}))
        feed.asked.clear()
        await hub.tick()
        assert feed.asked == [{"a", "b"}]

    run(scenario())


def test_the_wire_has_a_numbered_id_the_type_and_the_topic() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        hub = Hub(feed)
        one, _ = await hub.subscribe(frozenset({"a"}))
        await publish(hub, feed, tick_of("a", 7))
        [message] = queued(one)
        assert message.chunk.decode() == (
            f'id: {hub.boot_id}-1\nevent: sample\ndata: {{"topic":"a","n":7}}\n\n'
        )

    run(scenario())


def test_a_newcomer_is_told_how_things_stand() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        feed.standing = [tick_of("a", 5), tick_of("b", 6)]
        _, first = await Hub(feed).subscribe(frozenset({"a"}))
        assert numbers(first) == [5]

    run(scenario())


def test_who_comes_back_gets_what_was_missed() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        hub = Hub(feed)
        one, _ = await hub.subscribe(frozenset({"a"}))
        await publish(hub, feed, *(tick_of("a", n) for n in (1, 2)))
        _, second = queued(one)
        hub.unsubscribe(one)
        await publish(hub, feed, tick_of("a", 3), tick_of("b", 4))
        _, first = await hub.subscribe(frozenset({"a"}), last_id(hub, second))
        assert numbers(first) == [3]

    run(scenario())


@pytest.mark.parametrize("name", ["elsewhere-4", "nonsense", "-", "²-²"])
def test_who_comes_back_with_a_foreign_id_is_told_to_load_the_history(name: str) -> None:
    async def scenario() -> None:
        _, first = await Hub(FakeFeed()).subscribe(frozenset({"a"}), name)
        assert [message.event.type for message in first] == ["notice"]
        assert first[0].event.data["code"] == "resync"

    run(scenario())


def test_who_comes_back_too_late_is_told_to_load_the_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "RING_LENGTH", 2)

    async def scenario() -> None:
        feed = FakeFeed()
        hub = Hub(feed)
        one, _ = await hub.subscribe(frozenset({"a"}))
        await publish(hub, feed, *(tick_of("a", n) for n in range(4)))
        oldest = queued(one)[0]
        _, first = await hub.subscribe(frozenset({"a"}), last_id(hub, oldest))
        assert [message.event.type for message in first] == ["notice"]

    run(scenario())


def test_a_topic_that_was_given_up_meanwhile_is_not_replayed() -> None:
    async def scenario() -> None:
        feed, clock = FakeFeed(), Clock()
        hub = Hub(feed, clock)
        one, _ = await hub.subscribe(frozenset({"a"}))
        await hub.subscribe(frozenset({"b"}))
        await publish(hub, feed, tick_of("a", 1))
        [message] = queued(one)
        hub.unsubscribe(one)
        clock.now += 61
        await publish(hub, feed, tick_of("b", 2))
        assert feed.asked[-1] == {"b"}
        _, first = await hub.subscribe(frozenset({"a"}), last_id(hub, message))
        assert [m.event.type for m in first] == ["notice"]

    run(scenario())


def test_a_slow_reader_loses_the_oldest_and_learns_that_it_did() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        hub = Hub(feed)
        slow, _ = await hub.subscribe(frozenset({"a"}))
        await publish(hub, feed, *(tick_of("a", n) for n in range(hub_module.QUEUE_LENGTH + 3)))
        assert numbers(queued(slow))[0] == 3
        assert slow.take_missed()
        assert not slow.take_missed()

    run(scenario())


def test_a_database_that_is_away_does_not_end_the_hub(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub_module, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(hub_module, "TROUBLE_SECONDS", 0.01)

    async def scenario() -> None:
        feed = FakeFeed()
        feed.broken = True
        hub = Hub(feed)
        one, _ = await hub.subscribe(frozenset({"a"}))
        while not one.has_missed:
            await asyncio.sleep(0.01)
        feed.waiting, feed.broken = [tick_of("a", 1)], False
        assert await next_number(one) == 1

    run(scenario())
    assert "the database is away" in caplog.text


def test_the_hub_rests_when_nobody_listens_and_wakes_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "TICK_SECONDS", 0.01)

    async def scenario() -> None:
        feed, clock = FakeFeed(), Clock()
        hub = Hub(feed, clock)
        one, _ = await hub.subscribe(frozenset({"a"}))
        hub.unsubscribe(one)
        clock.now += 61
        while hub._task is not None:
            await asyncio.sleep(0.01)
        again, _ = await hub.subscribe(frozenset({"a"}))
        feed.waiting = [tick_of("a", 2)]
        assert await next_number(again) == 2

    run(scenario())


def test_a_signal_to_the_server_ends_the_streams_and_reaches_the_server_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "TICK_SECONDS", 0.01)
    reached: list[int] = []

    async def scenario() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: reached.append(number))
        hub = get_hub()
        hub._feed = FakeFeed()
        one, _ = await hub.subscribe(frozenset({"a"}))
        signal.raise_signal(signal.SIGTERM)
        assert await one.queue.get() is None
        late, _ = await hub.subscribe(frozenset({"a"}))
        assert await late.queue.get() is None

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run(scenario())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert reached == [signal.SIGTERM]
