"""What ends a training: failures with a word and a sentence, and what the user asked for."""

from __future__ import annotations

import errno

import torch

from ml.data import DataError

BROKEN_STORAGE = frozenset({errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT})
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class TrainingFailed(Exception):
    """Ends the session; `code` is one of ml.exits.EXIT_CODES."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Paused(Exception):
    """The user asked to pause; a checkpoint of this very step is on disk."""


class Cancelled(Exception):
    """The user asked to stop; nothing more is worth saving."""


class LostLease(Exception):
    """A newer attempt owns the run; this process must not write into it any more."""


def explain(error: Exception) -> TrainingFailed:
    """The failure behind an exception; anything unexpected is `crashed`."""
    if isinstance(error, TrainingFailed):
        return error
    if isinstance(error, DataError):
        return TrainingFailed("data_error", error.message)
    if isinstance(error, torch.OutOfMemoryError):
        sentence = "The GPU memory was not enough: try a smaller batch_size or a smaller network."
        return TrainingFailed("gpu_out_of_memory", f"{sentence} ({_first_line(error)})")
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        sentence = "The memory of this machine was not enough for the data and the network."
        return TrainingFailed("host_out_of_memory", f"{sentence} ({_first_line(error)})")
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f" while writing {error.filename}" if error.filename else ""
        sentence = f"The disk is full{where}: free some space and start the session again."
        return TrainingFailed("disk_full", sentence)
    if isinstance(error, OSError) and error.errno in BROKEN_STORAGE:
        return TrainingFailed("io_error", f"The storage failed: {_first_line(error)}.")
    sentence = f"An unexpected {type(error).__name__} stopped the training; stderr.log has more."
    return TrainingFailed("crashed", f"{sentence} ({_first_line(error)})")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
