"""Verdicts on a stranger's code: whatever it is, an answer with lines that can be looked up."""

import asyncio
import logging
from collections.abc import Sequence
from unittest.mock import Mock

import numpy as np
import pytest

from ml.serve.answers import describe_answers, from_shares
from ml.serve.batcher import Batcher, Limits
from ml.serve.errors import ContextLengthExceeded, DeadlineMissed
from ml.serve.review import BY_STYLE, EMPTY, GAVE_UP, UNPARSABLE, Review, review
from ml.serve.signature import Signature, TensorSpec
from ml.serve.tensors import Inputs

CLASSES = ("safe", "vulnerable")
UNSAFE = "import os\n\n\ndef wipe(path):\n    os.system('rm -rf ' + path)\n"
TOO_NESTED = "if a: pass\n" + "elif b: pass\n" * 1500


class Suspicious:
    """The more often a text says `os.`, the worse. `most_lines`: what it takes of a text."""

    signature = Signature(
        inputs=(TensorSpec(name="code", datatype="BYTES", shape=(None,)),),
        outputs=describe_answers(CLASSES),
        classes=CLASSES,
    )

    def __init__(self, most_lines: int = 1000) -> None:
        self.most_lines = most_lines

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        if any(text.count("\n") > self.most_lines for text in inputs["code"]):
            raise ContextLengthExceeded("too long")
        bad = np.array([1 - 0.75 ** text.count("os.") for text in inputs["code"]])
        answers = from_shares(CLASSES, np.stack([1 - bad, bad], axis=1))
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        return None


def judge(source: str, *, most_lines: int = 1000, timeout_seconds: float = 60) -> Review:
    async def run() -> Review:
        engine = Batcher(Suspicious(most_lines), is_batchable=True, limits=Limits())
        try:
            return await review(engine, source, "vulnerable", timeout_seconds)
        finally:
            await engine.drain()
            engine.close()

    return asyncio.run(run())


def lines_of(found: Review, rule: str = "B605") -> list[int]:
    return [each["line"] for each in found.findings if each["rule"] == rule]


@pytest.mark.parametrize(
    "source",
    [
        UNSAFE,
        "\ufeff" + UNSAFE,
        UNSAFE.replace("\n", "\r\n"),
        UNSAFE.replace("\n", "\r"),
        UNSAFE.replace("import os", "import os\x0c"),
        UNSAFE.replace("import os", "import os  # \x1c\x85\u2028 \U0001f600"),
    ],
    ids=["plain", "byte order mark", "crlf", "cr", "form feed", "other line ends"],
)
def test_lines_are_those_that_an_editor_shows(source: str) -> None:
    found = judge(source + "\n\ndef add(a):\n    return a\n".replace("\n", source[-1]))
    assert lines_of(found) == [5]
    places = {(part["first_line"], part["last_line"]) for part in found.parts}
    assert {(4, 5), (8, 9)} <= places


@pytest.mark.parametrize("encoding", ["utf-7", "nonsense", "latin-1"])
def test_a_comment_about_encodings_hides_nothing_from_the_rules(encoding: str) -> None:
    found = judge(f"#!/usr/bin/python\n# -*- coding: {encoding} -*-\n{UNSAFE} # nosec\n")
    assert lines_of(found) == [7]


def test_a_long_function_is_judged_window_by_window_and_the_worst_decides() -> None:
    body = ["    x = 1"] * 400
    body[300] = "    os.system(x)"
    found = judge("\n".join(["def f():", *body]) + "\n")
    assert found.label == "safe"  # one `os.`: 0.25
    worst = max(found.parts, key=lambda part: part["score"])
    assert worst["first_line"] <= 302 <= worst["last_line"]
    assert found.scores["vulnerable"] == worst["score"] == 0.25
    covered = {n for part in found.parts for n in range(part["first_line"], part["last_line"] + 1)}
    assert covered == set(range(1, 402))


def test_a_model_of_short_texts_gets_smaller_windows() -> None:
    found = judge("x = 1\n" * 50 + "os.system(x)\n", most_lines=10)
    assert len(found.parts) > 5
    assert lines_of(found) == [51]
    assert found.scores["vulnerable"] == 0.25


def test_a_file_may_have_more_functions_than_a_request_may_bring_rows() -> None:
    found = judge("def f(): os.x\n" * 4200 + "def g(): os.a; os.b; os.c\n")
    assert len(found.parts) == 4201
    assert (found.label, found.notes) == ("vulnerable", [BY_STYLE])


@pytest.mark.parametrize(
    ("source", "notes"),
    [
        ("", [EMPTY]),
        (" \n\t", [EMPTY]),
        ("def f(:", [UNPARSABLE]),
        ("os.a\0os.b", [UNPARSABLE]),
        ("x = '\udc80'", [UNPARSABLE]),
        ("x = " + "(" * 9999, [UNPARSABLE]),
        ("x = " + "-" * 50_000 + "1", [UNPARSABLE]),
        (TOO_NESTED, [GAVE_UP]),
        ("x = '" + "a" * 300_000 + "'", []),
    ],
)
def test_any_text_gets_a_verdict_and_what_is_to_be_said_of_it(
    source: str, notes: list[str]
) -> None:
    found = judge(source)
    assert found.label in CLASSES
    assert sum(found.scores.values()) == pytest.approx(1)
    assert found.notes == notes


def test_hostile_code_cannot_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Mock(level=logging.NOTSET)
    monkeypatch.setattr(logging.root, "handlers", [heard])
    judge(TOO_NESTED)
    told = [call.args[0].name for call in heard.handle.call_args_list]
    assert not [name for name in told if name.startswith("bandit")]


def test_a_verdict_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(DeadlineMissed, match="no verdict within"):
        judge("x = 1\n" * 2000, timeout_seconds=1e-6)
