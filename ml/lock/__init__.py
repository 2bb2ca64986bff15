"""Locks this process in before it opens a stranger's file: `lock(read=…, write=…)`.

Standard library only, and to be called before anything of weight is imported: what is open or
runs already stays so. Afterwards the process reads the named folders, its interpreter and
libraries, writes the named folders, and reaches no network, no other process and no other
program, whatever code gets hold of it. It cannot be undone.
"""

import os
import resource
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ml.environment import SLEEP_EARLY
from ml.lock import landlock, seccomp

GIB = 2**30
OPEN_FILES = 256
MAX_FILE_BYTES = 16 * GIB
KEPT_VARIABLES = ("PYTHONSAFEPATH", "LANG")
# Shared libraries, the time zones of Parquet, and what libraries ask about the machine.
SYSTEM_PATHS = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the process may use; None leaves a limit as it is."""

    memory_bytes: int | None = None
    """Address space: libraries reserve more of it than they use."""
    cpu_seconds: int | None = None
    file_bytes: int = MAX_FILE_BYTES


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What holds the process, as far as its kernel can."""

    landlock: int
    """Version of the kernel's Landlock; 0: it has none, and files and network are open."""
    seccomp: bool

    @property
    def is_complete(self) -> bool:
        return self.landlock > 0 and self.seccomp


def find_guards() -> InForce:
    """What would hold a process that locks itself in here."""
    return InForce(landlock=landlock.find_version(), seccomp=seccomp.is_known())


def lock(
    *, read: Iterable[Path] = (), write: Iterable[Path] = (), limits: Limits | None = None
) -> InForce:
    """Empty the environment, set limits, drop privileges, close files, network and processes.

    Raises OSError where the kernel has a guard and refuses it: better no answer than an open
    door. A kernel without the guard is told in the result.
    """
    empty_environment()
    limit_resources(limits or Limits())
    landlock.forbid_privileges()
    files = landlock.restrict([*_readable(), *read], list(write))
    return InForce(landlock=files, seccomp=seccomp.install())


def empty_environment() -> None:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    os.environ.clear()
    # Libraries of linear algebra reserve memory for each thread, which counts as used.
    os.environ.update(kept, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", **SLEEP_EARLY)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    # torch's compiler asks where temporary files may lie when it is imported, and never uses the
    # answer. Nothing is compiled in a child, and a locked one writes no such files.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.tempdir = os.sep


def limit_resources(limits: Limits) -> None:
    """Hard limits; the number of processes needs none, for seccomp allows no second one."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds)


def _limit(what: int, wanted: int | None) -> None:
    """Never more than there was, which only a privileged process could set."""
    hard = resource.getrlimit(what)[1]
    if wanted is not None:
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (value, value))


def _readable() -> list[Path]:
    """Interpreter, installed packages, this package, the system's libraries."""
    paths = {Path(entry) for entry in sys.path if entry} | {Path(each) for each in SYSTEM_PATHS}
    paths |= {Path(sys.base_prefix) / "lib", Path(sysconfig.get_path("stdlib"))}
    package = find_spec("ml")
    assert package is not None  # this file lies in it
    paths |= {Path(each) for each in package.submodule_search_locations or ()}
    return [path for path in sorted(paths) if path.is_absolute()]
