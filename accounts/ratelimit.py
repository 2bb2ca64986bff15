"""How fast somebody may ask: GCRA, exact across processes, one step in the database or in Redis.

A bucket keeps one number, the moment at which it is full of room again. A request is admitted
when it moves that moment no further than the period ahead of now; a refusal writes nothing.
Several requests may be taken in one step, and what was not used be given back.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection
from django.db.models import F

from accounts.models import RateBucket

if TYPE_CHECKING:
    from redis.commands.core import Script

logger = logging.getLogger(__name__)

SECOND = 1_000_000  # the buckets count in whole microseconds, so that nothing is rounded away
REDIS_SECONDS = 1.0

UPSERT = """
INSERT INTO accounts_ratebucket (name, full_at) VALUES (%(name)s, %(now)s + %(wanted)s)
ON CONFLICT (name) DO UPDATE
SET full_at = {later}(accounts_ratebucket.full_at, %(now)s) + %(wanted)s
WHERE {later}(accounts_ratebucket.full_at, %(now)s) + %(wanted)s - %(burst)s <= %(now)s
RETURNING full_at
"""
# The clock is Redis's own: the same for all web processes of all machines.
SCRIPT = """
local interval, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ahead = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) - now, 0)
count = math.min(count, math.floor((burst - ahead) / interval))
if count == 0 then return {0, ahead} end
ahead = math.max(ahead + count * interval, 1)
redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000))
return {count, ahead}
"""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """So many requests in so many seconds; all of them may come at once."""

    requests: int
    period: int

    @property
    def interval(self) -> int:
        return -(-self.period * SECOND // self.requests)

    @property
    def burst(self) -> int:
        return self.interval * self.requests


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`granted`: how many were let in; `ahead`: how many microseconds of the period are taken."""

    granted: int
    limit: Limit
    ahead: int

    @property
    def admitted(self) -> bool:
        return self.granted > 0

    @property
    def remaining(self) -> int:
        return max(0, (self.limit.burst - self.ahead) // self.limit.interval)

    @property
    def retry_after_seconds(self) -> int:
        return max(1, -(-(self.ahead + self.limit.interval - self.limit.burst) // SECOND))

    @property
    def headers(self) -> dict[str, str]:
        """`Reset` is the Unix time at which everything is free again."""
        return {
            "X-RateLimit-Limit": str(self.limit.requests),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(-(-(_now() + self.ahead) // SECOND)),
        }


def take(bucket: str, limit: Limit, count: int = 1) -> Verdict:
    """Admit `count` more requests of this bucket, or as many of them as there is room for."""
    count = min(count, limit.requests)
    if (answer := _ask_redis(bucket, limit, count)) is not None:
        granted, ahead = answer
        return Verdict(granted=granted, limit=limit, ahead=ahead)
    return _take_from_database(bucket, limit, count)


def give_back(bucket: str, limit: Limit, count: int) -> None:
    """Of what was taken, `count` were not used."""
    if _ask_redis(bucket, limit, -count) is None:
        RateBucket.objects.filter(pk=bucket).update(full_at=F("full_at") - count * limit.interval)


def forget_full_buckets() -> int:
    """A bucket whose moment has passed says no more than none."""
    return RateBucket.objects.filter(full_at__lt=_now()).delete()[0]


def _ask_redis(bucket: str, limit: Limit, count: int) -> tuple[int, int] | None:
    """How many were granted and how far ahead that is; None: the database counts."""
    if not settings.REDIS_URL:
        return None
    from redis import RedisError  # an extra: only where REDIS_URL is set

    try:
        granted, ahead = _script(settings.REDIS_URL)(
            keys=[f"mlserver:rate:{bucket}"], args=[limit.interval, limit.burst, count]
        )
    except RedisError as error:
        logger.warning("Redis does not answer (%s); the database counts requests", error)
        return None
    return int(granted), int(ahead)


def _take_from_database(bucket: str, limit: Limit, count: int) -> Verdict:
    """All of them, or as many as the row leaves room for: each try is one step."""
    while True:
        now = _now()
        full_at = _move(bucket, limit, count, now)
        if full_at is not None:
            return Verdict(granted=count, limit=limit, ahead=full_at - now)
        refused = Verdict(granted=0, limit=limit, ahead=max(0, _full_at(bucket) - now))
        count = min(count - 1, refused.remaining)
        if count <= 0:
            return refused


def _move(bucket: str, limit: Limit, count: int, now: int) -> int | None:
    later = "GREATEST" if connection.vendor == "postgresql" else "MAX"
    values: dict[str, str | int] = {
        "name": bucket,
        "now": now,
        "wanted": count * limit.interval,
        "burst": limit.burst,
    }
    with connection.cursor() as cursor:
        cursor.execute(UPSERT.format(later=later), values)
        row = cursor.fetchone()
    return row[0] if row else None


def _full_at(bucket: str) -> int:
    found = RateBucket.objects.filter(pk=bucket).values_list("full_at", flat=True).first()
    return found or _now()


def _now() -> int:
    return time.time_ns() // 1000


@lru_cache(maxsize=4)
def _script(url: str) -> Script:
    import redis

    client: Any = redis.Redis.from_url(
        url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
    )
    return client.register_script(SCRIPT)  # type: ignore[no-any-return]
