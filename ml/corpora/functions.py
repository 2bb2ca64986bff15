"""The corpus `python-functions`: functions and methods of the interpreter's standard library."""

import ast
import hashlib
import json
import sysconfig
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
FEWEST_LINES = 3
VALIDATION_SHARE = 0.1
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function at the top of a module or of a class, with its decorators, at no indent."""

    text: str
    file: str
    """Relative to the library's folder."""
    first_line: int
    last_line: int


def standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def list_files(root: Path, most: int | None = None) -> list[Path]:
    """Modules under `root` without tests and installed packages; `most`: the first so many."""
    found = sorted(
        path for path in root.rglob("*.py") if not LEFT_OUT & set(path.relative_to(root).parts[:-1])
    )
    return found[:most]


def list_functions(root: Path, files: Iterable[Path]) -> Iterator[Function]:
    """Every function of three lines or more, once, however often it was copied."""
    seen: set[str] = set()
    for path in files:
        for function in _functions_of(path, path.relative_to(root).as_posix()):
            if function.text not in seen:
                seen.add(function.text)
                yield function


def _functions_of(path: Path, name: str) -> Iterator[Function]:
    try:
        functions = list(functions_in(path.read_text("utf-8"), name))
    except (UnicodeDecodeError, SyntaxError, ValueError):
        return  # the library keeps a few files that are wrong on purpose
    yield from (each for each in functions if each.last_line - each.first_line >= FEWEST_LINES - 1)


def functions_in(source: str, file: str) -> Iterator[Function]:
    """Raises SyntaxError and ValueError where it is no Python."""
    tree = _parse(source)
    lines = lines_of(source)
    for node in _definitions(tree):
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        last = node.end_lineno or node.lineno
        text = textwrap.dedent("\n".join(lines[first - 1 : last]))
        yield Function(text + "\n", file, first, last)


def lines_of(source: str) -> list[str]:
    """As Python counts them: a form feed, or what else str.splitlines ends a line at, ends none."""
    return source.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in strings are no news
        return ast.parse(source)


def _definitions(tree: ast.Module) -> Iterator[Definition]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (each for each in node.body if isinstance(each, Definition))
        elif isinstance(node, Definition):
            yield node


def split_of(group: str, validation_share: float) -> str:
    """`train` or `validation`, by the group's name alone: it never changes."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4]) / 2**32
    return "validation" if place < validation_share else "train"


def write_functions(folder: Path, most_files: int | None = None) -> str:
    """Write {file, text, split} rows; a file is wholly in one part. Returns the file's name."""
    root = standard_library()
    with (folder / "data.jsonl").open("w", encoding="utf-8") as stream:
        for each in list_functions(root, list_files(root, most_files)):
            split = split_of(each.file, VALIDATION_SHARE)
            row = {"file": each.file, "text": each.text, "split": split}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return "data.jsonl"
