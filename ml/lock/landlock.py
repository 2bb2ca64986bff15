"""Landlock: the kernel's own list of what a process may do with files and TCP.

Source: https://docs.kernel.org/userspace-api/landlock.html (versions 1 to 7).
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION_FLAG, PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_FILE = 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | REFER | TRUNCATE
OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE
# How many of the rights above, counted from the first, each version of Landlock knows.
KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
NET_VERSION, BIND_AND_CONNECT_TCP = 4, 0b11
SCOPE_VERSION, ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11

PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr"""

    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr"""

    _pack_ = 1
    _layout_ = "ms"  # the only layout that may be packed; newer Pythons want it said
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def find_version() -> int:
    """The version of Landlock here; 0 where the kernel has none or it is switched off."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)))


def forbid_privileges() -> None:
    """No program gives more rights than there are, and root's own are given away."""
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def restrict(read: Iterable[Path], write: Iterable[Path]) -> int:
    """Close all files but these, and TCP; returns the version in force. Raises OSError."""
    version = find_version()
    if not version:
        return 0
    rights = (1 << KNOWN_RIGHTS.get(version, max(KNOWN_RIGHTS.values()))) - 1
    wanted = _Ruleset(
        files=rights,
        net=BIND_AND_CONNECT_TCP if version >= NET_VERSION else 0,
        scoped=ABSTRACT_SOCKETS_AND_SIGNALS if version >= SCOPE_VERSION else 0,
    )
    # Older kernels know a shorter structure, and accept the longer one when its rest is zero.
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    ruleset = _check(libc.syscall(CREATE_RULESET, ctypes.byref(wanted), size, 0), "ruleset")
    try:
        for path in read:
            _allow(ruleset, path, READ & rights)
        for path in write:
            _allow(ruleset, path, WRITE & rights)
        _check(libc.syscall(RESTRICT_SELF, ruleset, 0), "restrict_self")
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:  # there is nothing to allow
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= OF_FILES
        rule = _PathBeneath(allowed=rights, folder=descriptor)
        call = libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
        _check(call, f"rule for {path}")
    finally:
        os.close(descriptor)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)} ({errno.errorcode.get(code)})")
    return result
