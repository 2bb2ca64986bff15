"""Event streams of one web process: memory, threads and CPU they cost, how late events come.

    python -m benchmarks.bench_streams --streams 400        (a real server in a temporary folder)

Goals (design, interface.md): 400 streams at once in about 100 MB, while other requests are
answered as ever; a reading is in the browser within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson

from benchmarks.figures import begin, tell
from tests.servers import Stack, serving

SECONDS, PROBES = 20, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", type=int, default=400)
    count = parser.parse_args().streams
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving(Path(folder), MAX_EVENT_STREAMS=str(count)) as stack,
    ):
        asyncio.run(measure(stack, count))


async def measure(stack: Stack, count: int) -> None:
    [web] = stack.processes("uvicorn")
    headers = {"Authorization": f"Bearer {stack.key}"}
    unlimited = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=stack.url, headers=headers, limits=unlimited, timeout=60
    ) as client:
        quiet = await probe(client)
        before, threads = web.memory_info().rss, web.num_threads()
        async with AsyncExitStack() as opened:
            began = time.perf_counter()
            open_one = (
                opened.enter_async_context(client.stream("GET", "/stream/?topics=system"))
                for _ in range(count)
            )
            responses = await asyncio.gather(*open_one)
            took = time.perf_counter() - began
            delays: list[float] = []
            readers = [asyncio.create_task(listen(each, delays)) for each in responses]
            await asyncio.sleep(5)  # first words, not counted
            delays.clear()
            web.cpu_percent()
            busy, _ = await asyncio.gather(probe(client), asyncio.sleep(SECONDS))
            cpu = web.cpu_percent()
            refused = await client.get("/stream/?topics=system")
            rss, more = web.memory_info().rss, web.num_threads()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
    begin()
    found = sum(each.status_code == 200 for each in responses)
    told = f"in {took:.1f} s; one more: {refused.status_code}"
    tell(f"streams opened of {count}", found, at_least=count, more=told)
    grown = (rss - before) / 2**20
    threads_told = f"{threads} → {more} threads, {cpu:.1f} % of a core"
    tell(f"memory of {count} streams", grown, "MiB", at_most=100, more=threads_told)
    middle, late = middle_and_late(delays)
    told = f"99 of 100 within {late:.0f}"
    tell("reading of the machine → at a reader", middle, "ms", at_most=1000, more=told)
    (still, late_still), (middle, late) = middle_and_late(quiet), middle_and_late(busy)
    told = f"99 of 100 within {late:.0f}; without streams {still:.0f} and {late_still:.0f}"
    tell("another request meanwhile", middle, "ms", more=told)


async def listen(response: httpx.Response, delays: list[float]) -> None:
    """How old each reading of the machine is when it arrives, in milliseconds."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            taken = datetime.fromisoformat(orjson.loads(line[6:])["timestamp"])
            delays.append(1000 * (datetime.now(UTC) - taken).total_seconds())


async def probe(client: httpx.AsyncClient) -> list[float]:
    times = []
    for _ in range(PROBES):
        began = time.perf_counter()
        (await client.get("/api/v1/sessions/")).raise_for_status()
        times.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.02)
    return times


def middle_and_late(values: list[float]) -> tuple[float, float]:
    """Median, and what 99 of 100 stay below."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")  # never beyond what was seen
    return cuts[49], cuts[98]


if __name__ == "__main__":
    main()
