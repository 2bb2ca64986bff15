"""The run directory: the names of its files, how they are read and written, the journal.

Standard library only. It is the whole interface between a supervisor and a trainer.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ml import failpoints
from ml.storable import read_storable

CONTROLS = ("run", "pause", "cancel", "checkpoint")
CHECKPOINT_NAME = re.compile(r"step-\d{6,}")
ATTEMPT_NAME = re.compile(r"attempt-(\d+)")


class LockHeld(Exception):
    """Another process works in this run directory."""


@dataclass(frozen=True)
class RunDir:
    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def control_path(self) -> Path:
        return self.path / "control.json"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    @property
    def result_path(self) -> Path:
        return self.path / "result.json"

    @property
    def exit_path(self) -> Path:
        return self.path / "exit.json"

    @property
    def beat_path(self) -> Path:
        return self.path / "alive"

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    @property
    def model_temporary(self) -> Path:
        return self.path / ".model.tmp"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    def attempt_path(self, attempt: int) -> Path:
        return self.path / f"attempt-{attempt}"

    def journal_path(self, attempt: int) -> Path:
        return self.attempt_path(attempt) / "events.jsonl"

    def create(self, config: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config_path, config)

    def write_control(self, wanted: str) -> None:
        if wanted not in CONTROLS:
            raise ValueError(f"control must be one of {', '.join(CONTROLS)}; got {wanted!r}")
        write_json(self.control_path, {"wanted": wanted})

    def read_control(self) -> str:
        wanted = (read_json(self.control_path) or {}).get("wanted", "run")
        return wanted if wanted in CONTROLS else "run"

    def beat(self) -> None:
        """A sign of life: the trainer has come to another batch."""
        self.beat_path.touch()

    def last_beat(self) -> float | None:
        """When this attempt gave its last sign of life, by time.time(); None before the first."""
        try:
            return self.beat_path.stat().st_mtime
        except FileNotFoundError:
            return None

    def is_saving(self) -> bool:
        """Whether a checkpoint or the model is being written: no batch comes meanwhile."""
        return any(self.checkpoints_path.glob(".tmp-*")) or self.model_temporary.exists()

    def next_attempt(self) -> int:
        names = (ATTEMPT_NAME.fullmatch(entry.name) for entry in self.path.iterdir())
        return 1 + max((int(name[1]) for name in names if name), default=0)

    def take_lock(self, attempt: int, inherited: int | None = None) -> int:
        """Own the run until the returned descriptor closes, or raise LockHeld.

        A lock belongs to the open file, so a trainer that inherits the
        launcher's descriptor keeps the run owned when the launcher dies first.
        """
        if inherited is not None and not self._is_lock(inherited):
            inherited = None  # a number from somebody else's environment
        lock = inherited
        if lock is None:
            lock = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock_patiently(lock)
        except LockHeld:
            os.close(lock)
            raise
        owner = {"pid": os.getpid(), "attempt": attempt, "host": socket.gethostname()}
        if inherited is None:  # else it already names the launcher
            # In place, never by rename: the lock is on this very file.
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(owner).encode(), 0)
        return lock

    def _is_lock(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.lock_path.stat())
        except OSError:
            return False

    def is_locked(self) -> bool:
        """Whether a launcher or trainer lives; asks with a shared lock, for an instant."""
        try:
            lock = os.open(self.lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def lock_owner(self) -> dict[str, Any] | None:
        """Who took the lock last; only is_locked() says whether it still lives."""
        try:
            return read_json(self.lock_path)
        except ValueError:  # read between truncation and writing
            return None

    def read_result(self, attempt: int) -> dict[str, Any] | None:
        return _of_attempt(read_json(self.result_path), attempt)

    def read_exit(self, attempt: int) -> dict[str, Any] | None:
        return _of_attempt(read_json(self.exit_path), attempt)

    def checkpoints(self) -> list[Path]:
        """Every checkpoint folder, oldest first, complete or not."""
        if not self.checkpoints_path.is_dir():
            return []
        found = [p for p in self.checkpoints_path.iterdir() if CHECKPOINT_NAME.fullmatch(p.name)]
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("step-")))

    def complete_checkpoints(self) -> list[Path]:
        """Oldest first; only those with a manifest whose files are there in full size."""
        return [folder for folder in self.checkpoints() if is_complete(folder)]


class Journal:
    """The trainer's event file: one whole JSON line a call, in order, flushed at once."""

    def __init__(self, path: Path, attempt: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._attempt = attempt
        self._seq = 0

    def write(self, type: str, **fields: Any) -> None:
        seq = self._seq + 1
        event = {"seq": seq, "attempt": self._attempt, "at": now(), "type": type, **fields}
        line = json.dumps(finite(event), allow_nan=False, separators=(",", ":")) + "\n"
        self._append(line.encode())
        self._seq = seq  # a line that could not be written leaves no gap
        failpoints.hit("journal.after_line")

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._file).st_size
        try:
            failpoints.hit("journal.before_line")
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            # Half a line would swallow the next event, which says that the disk is full.
            if os.fstat(self._file).st_size > before:
                os.ftruncate(self._file, before)
            raise

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_events(
    path: Path, offset: int, limit_bytes: int = 1_000_000
) -> tuple[list[dict[str, Any]], int]:
    """The events after `offset` and the offset to go on from.

    A torn last line is left for the next call; a whole line that is no event
    becomes {"type": "damaged", "offset": …}, so that nothing vanishes silently.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read(limit_bytes)
            if b"\n" not in block and len(block) == limit_bytes:
                block += file.readline()  # one line longer than the limit
    except FileNotFoundError:
        return [], offset
    whole = block[: block.rfind(b"\n") + 1]
    return list(_parse_lines(whole, offset)), offset + len(whole)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace the file at once and durably: a reader sees the old or the new, never a half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(finite(data), file, allow_nan=False, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, None when there is no file; ValueError when it is not an object."""
    try:
        data = read_storable(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} must hold a JSON object")
    return data


def is_complete(checkpoint: Path) -> bool:
    try:
        manifest = read_json(checkpoint / "COMPLETE")
        return bool(manifest) and all(
            (checkpoint / name).stat().st_size == facts["size"]
            for name, facts in (manifest or {}).items()
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False


def sync_folder(folder: Path) -> None:
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


def finite(value: Any) -> Any:
    """The same JSON with null for what JSON cannot say: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_patiently(lock: int) -> None:
    # is_locked() holds a shared lock for an instant; that must not refuse a launcher.
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.025)
    raise LockHeld


def _of_attempt(data: dict[str, Any] | None, attempt: int) -> dict[str, Any] | None:
    return data if data and data.get("attempt") == attempt else None


def _parse_lines(block: bytes, offset: int) -> Iterator[dict[str, Any]]:
    for line in block.split(b"\n")[:-1]:
        try:
            event = read_storable(line)
        except ValueError:
            event = None
        yield event if isinstance(event, dict) else {"type": "damaged", "offset": offset}
        offset += len(line) + 1
