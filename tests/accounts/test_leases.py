"""Requests that are paid for in advance: nobody waits while more are, and what is not used goes
back."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from accounts import leases
from accounts.leases import Leases
from accounts.ratelimit import Limit, Verdict, give_back


class Bucket:
    """A bucket in memory that can be made to answer late."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.taken = limit, 0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.asked = 0

    async def run(self, function: Callable[..., Any], _: str, limit: Limit, count: int) -> Any:
        self.asked += 1
        await self.is_open.wait()
        if function is give_back:
            self.taken -= count
            return None
        granted = min(count, limit.requests - self.taken)
        self.taken += granted
        return Verdict(granted=granted, limit=limit, ahead=self.taken * limit.interval)


LIMIT = Limit(requests=100_000, period=60)


async def admit(owner: Leases, count: int) -> None:
    for _ in range(count):
        verdict = owner.spend("key", LIMIT) or await owner.take("key", LIMIT)
        assert verdict.admitted
        await asyncio.sleep(0)


def test_nobody_waits_while_more_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SECONDS", 600)

    async def run() -> None:
        bucket = Bucket(LIMIT)
        owner = Leases(bucket.run)
        await admit(owner, 2000)  # by now many are taken at once
        bucket.is_open.clear()
        asked = bucket.asked
        while bucket.asked == asked:  # until some are to be taken ahead
            assert owner.spend("key", LIMIT) is not None
            await asyncio.sleep(0)
        assert owner.spend("key", LIMIT) is not None  # the bucket still has not answered
        bucket.is_open.set()
        await admit(owner, 2000)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_is_not_used_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SECONDS", 600)

    async def run() -> None:
        bucket = Bucket(LIMIT)
        owner = Leases(bucket.run)
        await admit(owner, 500)
        assert bucket.taken > 500
        monkeypatch.setattr(leases, "SECONDS", 0)
        await admit(owner, 1)  # the last for a while
        await owner.tidy()
        assert bucket.taken == 501

    asyncio.run(asyncio.wait_for(run(), 60))
