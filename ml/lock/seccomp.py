"""seccomp: a filter in the kernel that answers forbidden system calls with an error.

The filter is a program of classic BPF over struct seccomp_data; see seccomp(2) and
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import platform
import struct

from ml.lock.calls import CLONE, CLONE3, DENIED, PRLIMIT, TGKILL, Numbers
from ml.lock.landlock import libc

PR_SET_SECCOMP, MODE_FILTER = 22, 2
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, EQUAL, AT_LEAST, HAS_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
CALL, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian
CLONE_THREAD = 0x10000
X32_CALLS = 0x40000000  # a second set of calls on x86_64, by which the list could be evaded
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

Instruction = bytes


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def install() -> bool:
    """Hold this process and all its threads to the filter; False where there is none for it.

    Needs no-new-privileges. Raises OSError where the kernel knows seccomp and refuses.
    """
    found = ARCHITECTURES.get(platform.machine())
    if found is None:
        return False
    code = b"".join(build(*found, pid=os.getpid()))
    program = _Program(length=len(code) // 8, instructions=code)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0:
        return True
    reason = ctypes.get_errno()
    if reason == errno.EINVAL:  # a kernel without filters
        return False
    raise OSError(reason, f"seccomp: {os.strerror(reason)}")


def is_known() -> bool:
    """Whether install() would find filters here: the kernel reads the program, which is nowhere."""
    if platform.machine() not in ARCHITECTURES:
        return False
    libc.prctl(PR_SET_SECCOMP, MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() != errno.EINVAL


def build(column: int, architecture: int, *, pid: int) -> list[Instruction]:
    """The program for one architecture; `column` is its place in the tables of numbers."""
    program = [
        _step(LOAD, ARCHITECTURE),
        _step(EQUAL, architecture, yes=1),
        _step(RETURN, KILL_PROCESS),
        _step(LOAD, CALL),
        _step(AT_LEAST, X32_CALLS, no=1),
        _step(RETURN, KILL_PROCESS),
    ]
    for numbers in DENIED.values():
        program += _refuse(numbers[column], errno.EPERM)
    program += _refuse(CLONE3[column], errno.ENOSYS)
    program += _only_where(CLONE, column, _step(HAS_BIT, CLONE_THREAD, no=1))
    program += _only_where(TGKILL, column, _step(EQUAL, pid, no=1))
    program += _only_where(PRLIMIT, column, _step(EQUAL, 0, no=1))
    return [*program, _step(RETURN, ALLOW)]


def _refuse(number: int | None, error: int) -> list[Instruction]:
    if number is None:
        return []
    return [_step(EQUAL, number, no=1), _step(RETURN, ERRNO | error)]


def _only_where(numbers: Numbers, column: int, condition: Instruction) -> list[Instruction]:
    """Allow a call where the low half of its first argument meets the condition."""
    number = numbers[column]
    assert number is not None
    return [
        _step(EQUAL, number, no=4),
        _step(LOAD, FIRST_ARGUMENT),
        condition,
        _step(RETURN, ALLOW),
        _step(RETURN, ERRNO | errno.EPERM),
    ]


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> Instruction:
    """struct sock_filter; `yes` and `no` are how many steps to leave out."""
    return struct.pack("=HBBI", code, yes, no, value)
