"""Frames between a web process and a worker: whole, in their order, and not held back for long."""

import asyncio
import socket

import pytest

from ml.serve.frames import TOGETHER, BrokenFrame, FrameReader, FrameWriter


async def write(count: int) -> list[int]:
    """How many frames the other side has, before the event loop turns and afterwards."""
    here, there = socket.socketpair()
    loop, reader = asyncio.get_running_loop(), FrameReader()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
    there.setblocking(False)
    writer, seen, numbers = FrameWriter(transport), [], []
    for number in range(count):
        writer.write({"number": number}, b"body ", b"in parts")
    for _ in range(3):
        try:
            frames = list(reader.feed(there.recv(2**16)))
        except BlockingIOError:
            frames = []
        assert all(body == b"body in parts" for _, body in frames)
        numbers += [header["number"] for header, _ in frames]
        seen.append(len(numbers))
        await asyncio.sleep(0)
    assert numbers == list(range(count))
    transport.close()
    there.close()
    return seen


@pytest.mark.parametrize(
    ("count", "at_once"), [(1, 0), (TOGETHER, TOGETHER), (2 * TOGETHER + 1, 2 * TOGETHER)]
)
def test_many_frames_set_out_while_more_are_said(count: int, at_once: int) -> None:
    seen = asyncio.run(write(count))
    assert (seen[0], seen[-1]) == (at_once, count)


def test_a_frame_that_claims_too_much_is_broken() -> None:
    with pytest.raises(BrokenFrame, match="claims"):
        list(FrameReader().feed(b"\xff" * 8))
