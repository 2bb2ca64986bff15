"""The filter, run by hand for both architectures, and its table against the kernel's headers."""

import errno
import re
import struct
from pathlib import Path

import pytest

from ml.lock import seccomp
from ml.lock.calls import CLONE, CLONE3, DENIED, PRLIMIT, TGKILL
from ml.lock.seccomp import ALLOW, ARCHITECTURES, ERRNO, KILL_PROCESS, build

PID = 4242
READ = (0, 63)
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
architectures = pytest.mark.parametrize("name", ARCHITECTURES)


def judge(name: str, call: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the program returns: a small machine for the few instructions it uses."""
    column, own = ARCHITECTURES[name]
    data = struct.pack("<IIQ6Q", call, architecture or own, 0, argument, *[0] * 5)
    program = build(column, own, pid=PID)
    place, loaded = 0, 0
    while True:
        code, yes, no, value = struct.unpack("=HBBI", program[place])
        place += 1
        if code == seccomp.RETURN:
            return int(value)
        if code == seccomp.LOAD:
            loaded = int.from_bytes(data[value : value + 4], "little")
            continue
        holds = {
            seccomp.EQUAL: loaded == value,
            seccomp.AT_LEAST: loaded >= value,
            seccomp.HAS_BIT: bool(loaded & value),
        }[code]
        place += yes if holds else no


@architectures
def test_what_is_listed_is_refused_and_the_rest_allowed(name: str) -> None:
    column, _ = ARCHITECTURES[name]
    denied = {numbers[column] for numbers in DENIED.values()} - {None}
    ruled = {numbers[column] for numbers in (CLONE, CLONE3, TGKILL, PRLIMIT)}
    for call in set(range(500)) - ruled:
        assert judge(name, call) == (ERRNO | errno.EPERM if call in denied else ALLOW), call


@architectures
def test_threads_are_allowed_and_processes_are_not(name: str) -> None:
    column, _ = ARCHITECTURES[name]
    clone, clone3 = CLONE[column], CLONE3[column]
    assert clone is not None
    assert clone3 is not None
    assert judge(name, clone, seccomp.CLONE_THREAD | 0x100) == ALLOW
    assert judge(name, clone, 17) == ERRNO | errno.EPERM
    assert judge(name, clone3) == ERRNO | errno.ENOSYS


@architectures
def test_signals_and_limits_reach_only_the_process_itself(name: str) -> None:
    column, _ = ARCHITECTURES[name]
    tgkill, prlimit = TGKILL[column], PRLIMIT[column]
    assert tgkill is not None
    assert prlimit is not None
    assert judge(name, tgkill, PID) == judge(name, prlimit, 0) == ALLOW
    assert judge(name, tgkill, PID + 1) == judge(name, prlimit, PID) == ERRNO | errno.EPERM


@architectures
def test_calls_of_another_architecture_end_the_process(name: str) -> None:
    assert judge(name, READ[0], architecture=0x40000003) == KILL_PROCESS  # 32 bits
    assert judge(name, seccomp.X32_CALLS | 1) == KILL_PROCESS


@architectures
def test_the_numbers_are_those_of_the_kernel(name: str) -> None:
    if not HEADERS[name].exists():
        pytest.skip(f"{HEADERS[name]} is not installed")
    column, _ = ARCHITECTURES[name]
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[name].read_text())
    known = {call: int(number) for call, number in lines}
    every = DENIED | {"clone": CLONE, "clone3": CLONE3, "tgkill": TGKILL, "prlimit64": PRLIMIT}
    for call, numbers in every.items():
        newer_than_these_headers = call not in known and (numbers[column] or 0) > max(
            known.values()
        )
        if not newer_than_these_headers:
            assert known.get(call) == numbers[column], call
