"""Makes a corpus into a dataset version, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.corpora.functions import write_functions
from ml.corpora.security import write_security
from ml.data import DataError
from ml.data.importer import import_dataset


@dataclass(frozen=True)
class Corpus:
    description: str
    write: Callable[[Path, int | None], str]
    """Writes the data file into a folder, of so many library files or of all; returns its name."""


CORPORA = {
    "code-security": Corpus(
        "Python functions, vulnerable or safe: written for documented rules, and of the standard "
        "library as Bandit's rules judge them. Split by task and by file.",
        write_security,
    ),
    "python-functions": Corpus(
        "Functions and methods of this Python's standard library. Split by file.",
        write_functions,
    ),
}


def build_corpus(name: str, folder: Path, most_files: int | None = None) -> dict[str, Any]:
    """Make `folder` and in it a dataset version of the corpus; returns schema and description.

    `most_files`: how many files of the standard library are read, in the order of their names.
    """
    if name not in CORPORA:
        raise DataError(f"There is no corpus {name!r}; there are {', '.join(CORPORA)}.")
    corpus = CORPORA[name]
    folder.mkdir()
    schema = import_dataset(folder, corpus.write(folder, most_files))
    return {"schema": schema, "description": corpus.description}
