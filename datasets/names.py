"""What a dataset may be called, and how a reference like `iris@2` is read."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from mlserver.lib.errors import FieldError, Invalid
from mlserver.lib.suggestions import suggest

LONGEST_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
_REFERENCE = re.compile(r"(?P<name>[^@/]+)(?:@v?|/v)(?P<number>[1-9][0-9]{0,8})", re.ASCII)

# Well-known names that are not on this machine, and what is.
SIMILAR = {
    "mnist": "digits28 has the same shape (28×28 grey digits, 10 classes)",
    "fashion-mnist": "digits28 has the same shape (28×28, 10 classes)",
    "fashion_mnist": "digits28 has the same shape (28×28, 10 classes)",
    "fashionmnist": "digits28 has the same shape (28×28, 10 classes)",
    "boston": "diabetes is a regression on a table, too",
    "california_housing": "diabetes is a regression on a table, too",
}


def check_name(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    message = (
        "a dataset's name has 1 to 100 letters, digits, dots, dashes or underscores"
        f" and begins with a letter, digit or underscore; got {shown!r}"
    )
    raise Invalid(message, errors=[FieldError(field="name", message=message, value=name[:200])])


def name_from_filename(filename: str) -> str:
    """`My table (1).csv` → `My-table-1`: a name when a person gives none."""
    stem = PurePath(filename.replace("\\", "/")).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:LONGEST_NAME]


def read_reference(reference: str) -> tuple[str, int | None]:
    """`iris` → (iris, None); `iris@2`, `iris@v2` and `iris/v2` → (iris, 2)."""
    found = _REFERENCE.fullmatch(reference)
    return (found["name"], int(found["number"])) if found else (reference, None)


def not_found_sentence(name: str, known: Iterable[str]) -> str:
    """What to do about a name that is not there."""
    shown = name[:LONGEST_NAME]
    sentence = f"Dataset not found: {shown}. Upload it under that name (POST /api/v1/datasets/)"
    if similar := SIMILAR.get(name.lower()):
        return f"{sentence}; {similar}."
    if near := suggest(name, known):
        return f"{sentence}, or did you mean {near}?"
    return f"{sentence}."
