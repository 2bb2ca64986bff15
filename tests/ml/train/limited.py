"""Trains with little memory: `python limited.py MEGABYTES SMALL_RUN RUN`.

A small run comes first, because PyTorch loads much of itself only when it is used. Then so many
megabytes more may be written to (RLIMIT_DATA): the heap, not the files that are mapped.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from ml.train.__main__ import main


def limit_memory(megabytes: int) -> None:
    taken = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert taken is not None
    most = int(taken[1]) * 2**10 + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    megabytes, small, large = sys.argv[1:]
    if code := main([small]):
        sys.exit(code)
    limit_memory(int(megabytes))
    sys.exit(main([large]))
