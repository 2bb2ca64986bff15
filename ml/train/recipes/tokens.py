"""Token numbers of every row, one after the other in a file; a row is a piece of it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from ml.train.prepared import map_array

IGNORED = -100
"""A label that counts for nothing, as in torch's cross_entropy."""
BUFFERED = 2**20
"""Tokens that wait in memory for the disk."""


class TokenWriter:
    """Writes a folder's tokens of one name, row by row."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._file = (folder / f"{name}.tokens").open("wb")
        self._buffer = array("i")
        self._ends, self._counts = array("q"), array("q")
        self.size = 0

    def write(self, tokens: Sequence[int]) -> None:
        """A row; what is IGNORED in it is not counted among what is learned."""
        self.extend(tokens)
        self._ends.append(self.size)
        self._counts.append(len(tokens) - tokens.count(IGNORED))

    def extend(self, tokens: Sequence[int]) -> None:
        """More tokens, without the end of a row."""
        self._buffer.extend(tokens)
        self.size += len(tokens)
        if len(self._buffer) >= BUFFERED:
            self._flush()

    def _flush(self) -> None:
        self._buffer.tofile(self._file)
        self._buffer = array("i")

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush()
        self._file.close()
        ends = np.frombuffer(self._ends, np.int64) if self._ends else np.empty(0, np.int64)
        counts = np.frombuffer(self._counts, np.int64) if self._counts else ends
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
        write_rows(self.folder, self.name, starts, ends, counts)


def write_rows(
    folder: Path, name: str, starts: np.ndarray, ends: np.ndarray, counts: np.ndarray
) -> None:
    """Where each row begins and ends in the tokens, and how many labels it has."""
    np.stack([starts, ends, counts]).astype(np.int64).tofile(folder / f"{name}.rows")


class TokenRows:
    """The rows that a TokenWriter wrote: row numbers to arrays of int32."""

    def __init__(self, folder: Path, name: str, *, hides_first: bool = False) -> None:
        """`hides_first`: nothing stands before the first token of a row that could foretell it,
        so as a label it is IGNORED."""
        self._tokens = map_array(folder / f"{name}.tokens", np.int32)
        rows = np.fromfile(folder / f"{name}.rows", np.int64)
        self._starts, self._ends, self.label_counts = rows.reshape(3, -1)
        self._hides_first = hides_first
        if hides_first:
            self.label_counts = np.maximum(self.label_counts - 1, 0)

    @property
    def lengths(self) -> np.ndarray:
        lengths: np.ndarray = self._ends - self._starts
        return lengths

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, row: int) -> np.ndarray:
        tokens: np.ndarray = self._tokens[self._starts[row] : self._ends[row]]
        if self._hides_first:
            tokens = tokens.copy()
            tokens[:1] = IGNORED
        return tokens
