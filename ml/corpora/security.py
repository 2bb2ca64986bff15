"""The corpus `code-security`: functions that break or keep documented rules, and library functions.

Rows are {text, label, rule, source, group, split}. A group is one task of a rule, done wrongly
by one template and rightly by another, or a file of the standard library; it lies wholly in
one part. A random split would show renderings of one template on both sides, and 99 % that
mean nothing; the two of a task, which share most words, on two sides would mislead.
"""

import ast
import json
import random
import re
import string
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ml.corpora.findings import Finding, scan
from ml.corpora.functions import Function, list_files, list_functions, split_of, standard_library

LABELS = ("safe", "vulnerable")
RENDERINGS = 12
"""Of each template; the same text twice is kept once."""
SAFE_A_SERIOUS = 3
"""Library functions without any finding, for each one with a serious finding."""
MOST_LINES = 120
"""Of library functions: what is longer is rarely wrong as a whole."""
VALIDATION_SHARE = 0.3
"""Of the library's files: few have a serious finding, and a figure needs some of them."""
SEED = 20260106


class Snippet(string.Template):
    """A template whose slots are words in capitals, such as $NOUN; $$ is a dollar."""

    idpattern = "[A-Z]+"
    flags = re.NOFLAG


@dataclass(frozen=True)
class Rule:
    id: str
    cwe: str
    title: str
    reference: str
    vulnerable: tuple[str, ...]
    safe: tuple[str, ...]


def read_rules() -> tuple[list[Rule], dict[str, list[str]]]:
    """The documented rules, and the words for each slot of their templates."""
    document = tomllib.loads((files("ml.corpora") / "security_rules.toml").read_text("utf-8"))
    rules = [
        Rule(**{**each, **{label: tuple(each[label]) for label in LABELS}})
        for each in document["rule"]
    ]
    return rules, document["slots"]


def write_security(folder: Path, most_files: int | None = None) -> str:
    """Write both parts as data.jsonl; returns the file's name."""
    rows = [*render_rules(), *label_library(standard_library(), most_files)]
    with (folder / "data.jsonl").open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return "data.jsonl"


# ── templates ────────────────────────────────────────────────────────────────────────


def render_rules() -> Iterator[dict[str, Any]]:
    rules, slots = read_rules()
    random_ = random.Random(SEED)  # noqa: S311  (a corpus, no secret)
    for rule in rules:
        held_back = random_.randrange(len(rule.safe))
        for label in LABELS:
            templates: tuple[str, ...] = getattr(rule, label)
            for number, template in enumerate(templates):
                for text in _render(template, slots, random_):
                    yield {
                        "text": text,
                        "label": label,
                        "rule": rule.cwe,
                        "source": "template",
                        "group": f"{rule.id}/{number + 1}",
                        "split": "validation" if number == held_back else "train",
                    }


def _render(template: str, slots: dict[str, list[str]], random_: random.Random) -> list[str]:
    """Different texts, at most RENDERINGS; each parses."""
    texts: dict[str, None] = {}
    for _ in range(RENDERINGS):
        words = {slot: random_.choice(choices) for slot, choices in slots.items()}
        text = Snippet(template.lstrip("\n")).substitute(words)
        ast.parse(text)
        texts[text] = None
    return list(texts)


# ── the standard library ─────────────────────────────────────────────────────────────


def label_library(root: Path, most_files: int | None = None) -> Iterator[dict[str, Any]]:
    """Functions with a serious finding, and a sample of those without any; split by file."""
    modules = list_files(root, most_files)
    findings = {path.relative_to(root).as_posix(): told for path, told in scan(modules).items()}
    serious: list[tuple[Function, Finding]] = []
    clean: list[Function] = []
    for function in list_functions(root, modules):
        if function.last_line - function.first_line >= MOST_LINES:
            continue
        told = _inside(function, findings.get(function.file, []))
        worst = next((finding for finding in told if finding.is_serious), None)
        if worst is not None:
            serious.append((function, worst))
        elif not told:
            clean.append(function)
    count = min(len(clean), SAFE_A_SERIOUS * len(serious))
    sample = random.Random(SEED).sample(clean, count)  # noqa: S311
    for function, finding in serious:
        yield _library_row(function, "vulnerable", finding.cwe)
    for function in sample:
        yield _library_row(function, "safe", None)


def _inside(function: Function, findings: list[Finding]) -> list[Finding]:
    return [
        finding for finding in findings if function.first_line <= finding.line <= function.last_line
    ]


def _library_row(function: Function, label: str, rule: str | None) -> dict[str, Any]:
    return {
        "text": function.text,
        "label": label,
        "rule": rule,
        "source": "library",
        "group": function.file,
        "split": split_of(function.file, VALIDATION_SHARE),
    }
