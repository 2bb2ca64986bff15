"""The security corpus: rules as documented, groups never parted, labels as Bandit gives them."""

import ast
import re
from pathlib import Path

from ml.corpora.build import build_corpus
from ml.corpora.findings import scan
from ml.corpora.security import label_library, read_rules, render_rules

DANGEROUS = """
import os
import pickle


def restore(path):
    with open(path, "rb") as stream:
        return pickle.load(stream)


def check(value):
    assert value
    return value


def add(a, b):
    total = a + b
    return total
"""


def test_every_rule_is_documented_and_shows_both_sides() -> None:
    rules, _ = read_rules()
    assert len(rules) >= 22
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert re.fullmatch(r"CWE-\d+", rule.cwe)
        assert rule.title
        assert rule.reference
        assert len(rule.vulnerable) == len(rule.safe) >= 3, rule.id


def test_every_rendering_is_a_short_function() -> None:
    rows = list(render_rules())
    for row in rows:
        [node] = ast.parse(row["text"]).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        assert 2 <= len(row["text"].splitlines()) <= 12, row["text"]
    assert len({row["text"] for row in rows}) == len(rows)


def test_a_task_lies_in_one_part_with_both_its_labels() -> None:
    rows = list(render_rules())
    parts: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row["group"], set()).add(row["split"])
        labels.setdefault(row["group"], set()).add(row["label"])
    assert all(len(found) == 1 for found in parts.values())
    assert all(found == {"safe", "vulnerable"} for found in labels.values())
    held_back = [group for group, found in parts.items() if found == {"validation"}]
    assert len(held_back) == len(read_rules()[0])


def test_both_sides_use_the_same_words() -> None:
    """Words alone must not tell: most words of a vulnerable template stand in its safe twin."""
    rules, _ = read_rules()
    shares = []
    for rule in rules:
        for wrong, right in zip(rule.vulnerable, rule.safe, strict=True):
            words = set(re.findall(r"[A-Za-z]{3,}", wrong))
            shares.append(len(words & set(re.findall(r"[A-Za-z]{3,}", right))) / len(words))
    assert sum(shares) / len(shares) > 0.6


def test_bandit_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(DANGEROUS)
    findings = scan([path])[path]
    [found] = [finding for finding in findings if finding.is_serious]
    assert (found.line, found.rule, found.cwe, found.severity) == (8, "B301", "CWE-502", "medium")
    assert "pickle" in found.sentence.lower()


def test_library_functions_are_labelled_by_their_findings(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(DANGEROUS)
    rows = list(label_library(tmp_path))
    told = {row["text"].split("(")[0]: (row["label"], row["rule"]) for row in rows}
    # What has a finding of low severity is neither one nor the other.
    assert told == {"def restore": ("vulnerable", "CWE-502"), "def add": ("safe", None)}
    assert {row["group"] for row in rows} == {"a.py"}
    assert {row["source"] for row in rows} == {"library"}


def test_the_corpus_is_a_dataset(tmp_path: Path) -> None:
    schema = build_corpus("code-security", tmp_path / "made", most_files=20)["schema"]
    assert schema["target"] == "label"
    assert schema["classes"] == ["safe", "vulnerable"]
    assert any("'split' decides" in warning for warning in schema["warnings"])
