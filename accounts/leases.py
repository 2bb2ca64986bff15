"""Rate limits for a process that answers thousands of requests a second, as exact as one by one.

Requests that wait together are taken from their bucket in one step. A caller who uses up what was
taken within moments gets more in the next step, never more than a small share of what is left;
what is not used goes back. So no more come in than may, whichever process they ask, and under the
usual limits each is taken by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from accounts.ratelimit import Limit, Verdict, give_back, take

logger = logging.getLogger(__name__)

SECONDS = 0.25
"""What was not used for so long goes back."""
SHARE = 64
"""Of what is left in the bucket, one part in so many may be taken ahead of need."""

Run = Callable[..., Awaitable[Any]]


class Lease:
    """Of one bucket: `left` requests are paid for, until `until`."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.left = 0
        self.ahead = 1
        self.until = 0.0
        self.full_at = 0.0
        self.waiting = 0
        self.lock = asyncio.Lock()
        self.renewal: asyncio.Task[None] | None = None

    def spend(self) -> Verdict | None:
        """One that is paid for; None: there is none."""
        now = time.monotonic()
        if self.left <= 0 or now >= self.until:
            return None
        self.left, self.until = self.left - 1, now + SECONDS
        unused = self.left * self.limit.interval
        ahead = max(0, round((self.full_at - now) * 1e6) - unused)
        return Verdict(granted=1, limit=self.limit, ahead=ahead)

    def fill(self, verdict: Verdict) -> None:
        now = time.monotonic()
        was_quick = self.until > now
        self.ahead = max(1, min(2 * self.ahead if was_quick else 1, verdict.remaining // SHARE))
        self.left, self.until = self.left + verdict.granted, now + SECONDS
        self.full_at = now + verdict.ahead / 1e6


class Leases:
    """For one event loop; `run` calls a function that asks the database in a thread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._leases: dict[str, Lease] = {}

    def spend(self, bucket: str, limit: Limit) -> Verdict | None:
        """Without waiting, where something is left; else `take`."""
        lease = self._leases.get(bucket)
        if lease is None or lease.limit != limit:
            return None
        verdict = lease.spend()
        if verdict is not None and lease.left < lease.ahead // 2 and lease.renewal is None:
            lease.renewal = asyncio.create_task(self._renew(bucket, lease))
        return verdict

    async def take(self, bucket: str, limit: Limit) -> Verdict:
        lease = self._leases.get(bucket)
        if lease is None or lease.limit != limit:
            await self._return(bucket)
            lease = self._leases[bucket] = Lease(limit)
        lease.waiting += 1
        try:
            async with lease.lock:
                return lease.spend() or await self._refill(bucket, lease)
        finally:
            lease.waiting -= 1

    async def tidy(self) -> None:
        """What was not used in its time goes back."""
        now = time.monotonic()
        for bucket, lease in list(self._leases.items()):
            if now >= lease.until and not lease.waiting:
                await self._return(bucket)

    async def close(self) -> None:
        for bucket in list(self._leases):
            await self._return(bucket)

    async def _renew(self, bucket: str, lease: Lease) -> None:
        """Before it is used up, so that nobody waits."""
        try:
            async with lease.lock:
                lease.fill(await self._run(take, bucket, lease.limit, lease.ahead))
                if self._leases.get(bucket) is not lease:  # it was given up meanwhile
                    await self._give_back(bucket, lease)
        except Exception:  # the edge: who finds the lease empty asks again, and is told
            logger.warning("Requests could not be paid for in advance", exc_info=True)
        finally:
            lease.renewal = None

    async def _refill(self, bucket: str, lease: Lease) -> Verdict:
        await self._give_back(bucket, lease)
        wanted = lease.waiting + lease.ahead - 1
        verdict: Verdict = await self._run(take, bucket, lease.limit, max(1, wanted))
        lease.fill(verdict)
        return lease.spend() or verdict

    async def _return(self, bucket: str) -> None:
        if lease := self._leases.pop(bucket, None):
            await self._give_back(bucket, lease)

    async def _give_back(self, bucket: str, lease: Lease) -> None:
        unused, lease.left = lease.left, 0
        if unused > 0:
            await self._run(give_back, bucket, lease.limit, unused)
