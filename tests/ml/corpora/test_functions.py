"""The functions of a library: which count, and which part they fall into."""

import json
from pathlib import Path

import pytest

from ml.corpora.build import build_corpus
from ml.corpora.functions import list_files, list_functions, split_of
from ml.data import DataError

SOURCE = '''
import os


@os.wrapped
def first(a):
    """Doc."""
    def inside():
        return 1
    return a


def short(): return 1


class Thing:
    def method(self):
        x = 1
        return x

    class Nested:
        def hidden(self):
            x = 2
            return x
'''


def library(root: Path, **files: str) -> Path:
    for name, source in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def test_functions_and_methods_are_taken_with_their_decorators(tmp_path: Path) -> None:
    root = library(tmp_path, a=SOURCE)
    first, method = list_functions(root, list_files(root))
    assert first.text.startswith("@os.wrapped\ndef first(a):\n")
    assert "def inside" in first.text
    assert method.text == "def method(self):\n    x = 1\n    return x\n"
    assert (method.file, method.first_line, method.last_line) == ("a.py", 17, 19)


def test_only_what_ends_a_line_for_python_ends_one(tmp_path: Path) -> None:
    root = library(tmp_path, a="x = 1\x0c\n" + SOURCE.replace("return 1", "return '\u2028'"))
    first, method = list_functions(root, list_files(root))
    assert first.text.endswith("    return a\n")
    assert (method.first_line, method.last_line) == (18, 20)


def test_a_copy_counts_once(tmp_path: Path) -> None:
    root = library(tmp_path, a=SOURCE, b=SOURCE)
    assert {each.file for each in list_functions(root, list_files(root))} == {"a.py"}


def test_tests_and_installed_packages_are_left_out(tmp_path: Path) -> None:
    root = library(tmp_path, a="", test__b="", lib__tests__c="", idlelib__d="")
    library(tmp_path / "site-packages", e="")
    assert [path.name for path in list_files(root)] == ["a.py"]


def test_a_file_that_is_no_python_is_left_out(tmp_path: Path) -> None:
    root = library(tmp_path, a="def broken(:\n")
    assert list(list_functions(root, list_files(root))) == []


def test_a_tenth_of_the_groups_is_held_back_for_ever() -> None:
    parts = [split_of(f"module{number}.py", 0.1) for number in range(2000)]
    assert 150 < parts.count("validation") < 250
    assert split_of("ast.py", 0.1) == split_of("ast.py", 0.1)


def test_the_corpus_is_a_dataset_split_by_file(tmp_path: Path) -> None:
    made = build_corpus("python-functions", tmp_path / "made", most_files=25)
    schema = made["schema"]
    rows = [
        json.loads(line) for line in (tmp_path / "made" / "data.jsonl").read_text().splitlines()
    ]
    assert schema["sample_count"] == len(rows) > 200
    assert schema["target"] == "text"
    parts = {name: {row["file"] for row in rows if row["split"] == name} for name in split_names}
    assert parts["train"]
    assert not parts["train"] & parts["validation"]


split_names = ("train", "validation")


def test_an_unknown_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python-functions"):
        build_corpus("rust-functions", tmp_path)
