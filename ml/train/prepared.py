"""What a run makes of its dataset before the first step: kept in its folder, made only once.

So a resumed run goes on with the very same numbers, and memory holds only what a step takes: the
arrays are mapped, and the system keeps of them what fits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ml.rundir import sync_folder
from ml.train.export import sync_tree

FOLDER = "prepared"
KEY_FILE, FORMAT = "key.json", 1


def make_once(folder: Path, made_of: Mapping[str, Any], make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder, as a whole or not at all, unless it was made of the same before."""
    whole = json.dumps({"format": FORMAT, **made_of}, sort_keys=True, default=str)
    key = json.dumps({"sha256": hashlib.sha256(whole.encode()).hexdigest()})
    if (folder / KEY_FILE).is_file() and (folder / KEY_FILE).read_text() == key:
        return
    temporary = folder.with_name(f"{folder.name}.new")
    for old in (temporary, folder):
        shutil.rmtree(old, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        make(temporary)
        (temporary / KEY_FILE).write_text(key)
        sync_tree(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def map_array(path: Path, dtype: type[np.generic], *shape: int) -> np.ndarray:
    """Raw numbers, one row after the other; mapped to be read."""
    if not path.stat().st_size:  # nothing can be mapped
        return np.empty((0, *shape), dtype)
    return np.asarray(np.memmap(path, dtype, "r")).reshape(-1, *shape)
