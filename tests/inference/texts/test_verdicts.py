"""POST /api/v1/inference/classify and embed."""

from typing import Any

import httpx
import pytest

from tests.inference.plane.conftest import Served
from tests.ml.serve.models import SAFE_CODE, UNSAFE_CODE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("texts")]


def send(served: Served, path: str, asked: dict[str, Any]) -> httpx.Response:
    with served.client() as client:
        return client.post(f"/api/v1/inference/{path}", json=asked)


def test_the_request_of_document_000_gets_a_verdict_with_its_reasons(served: Served) -> None:
    asked = {"code": "import os; os.system('rm -rf /')", "task": "security"}
    answer = send(served, "classify", asked)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["label"] == "vulnerable"
    assert made["confidence"] == made["all_scores"]["vulnerable"] > 0.5
    assert sum(made["all_scores"].values()) == pytest.approx(1, abs=1e-12)
    assert made["code"] == asked["code"]
    assert made["inference_time_ms"] > 0
    assert {finding["rule"] for finding in made["findings"]} == {"B605", "B607"}
    assert all(finding["line"] == 1 for finding in made["findings"])


def test_the_worst_function_decides_for_a_file(served: Served) -> None:
    functions = [SAFE_CODE.replace("add", f"add{n}") for n in range(40)]
    bad = "def wipe():\n    " + UNSAFE_CODE.replace("\n", "\n    ").rstrip() + "\n"
    made = send(served, "classify", {"code": "".join([*functions, bad, *functions])}).json()
    assert made["label"] == "vulnerable"
    assert len(made["parts"]) == 81
    worst = max(made["parts"], key=lambda part: part["score"])
    assert (worst["first_line"], worst["last_line"]) == (81, 83)
    assert worst["score"] == pytest.approx(made["all_scores"]["vulnerable"], abs=1e-6)
    assert {finding["line"] for finding in made["findings"] if finding["rule"] == "B605"} == {83}


@pytest.mark.parametrize(
    ("code", "note"),
    [("", "no code"), ("def f(:", "does not parse"), ("(" * 9999, "parse"), ("os\0", "parse")],
)
def test_any_code_gets_a_verdict_and_a_note(served: Served, code: str, note: str) -> None:
    made = send(served, "classify", {"code": code, "task": "security"}).json()
    assert made["label"] in ("safe", "vulnerable")
    assert any(note in each for each in made["notes"])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"code": "%s"}' % (b"x" * 10**7), 422, "400000"),
        (b'{"code": "\xff\xfe"}', 400, "JSON"),
        (b'{"code": "\\ud800"}', 400, "JSON"),
        (b'{"code": %s}' % (b"[" * 10**5 + b"]" * 10**5), 400, "depth"),
    ],
    ids=["10 MB", "not UTF-8", "half a character", "nested"],
)
def test_what_is_no_text_or_too_long_is_refused(
    served: Served, body: bytes, status: int, said: str
) -> None:
    with served.client() as client:
        answer = client.post(
            "/api/v1/inference/classify", content=body, headers={"content-type": "application/json"}
        )
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


def test_other_tasks_are_classifiers_of_that_alias_or_name(served: Served) -> None:
    named = send(served, "classify", {"code": "calm", "model": "moods"}).json()
    assert set(named["all_scores"]) == {"LABEL_0", "LABEL_1"}
    assert named["confidence"] == max(named["all_scores"].values())
    assert named["findings"] == []
    unknown = send(served, "classify", {"code": "calm", "task": "mood"})
    assert unknown.status_code == 404
    with served.client() as client:
        client.put("/api/v1/models/moods/aliases/mood", json={"version": 1}).raise_for_status()
    assert send(served, "classify", {"code": "calm", "task": "mood"}).json()["label"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("classify", {"code": "x", "model": "code-generator"}),
        ("classify", {"code": "x", "model": "encoder"}),
        ("classify", {"code": "x", "model": "moods", "task": "security"}),
        ("embed", {"input": "x", "model": "moods"}),
        ("generate", {"prompt": "x", "model": "moods"}),
    ],
)
def test_a_model_for_other_work_is_refused(
    served: Served, path: str, asked: dict[str, Any]
) -> None:
    answer = send(served, path, asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_offered")


def test_each_text_gets_its_vector(served: Served) -> None:
    texts = ["calm", "loud add 1 2"]
    both = send(served, "embed", {"model": "encoder", "input": texts}).json()
    alone = send(served, "embed", {"model": "encoder", "input": texts[1]}).json()
    assert both["dimensions"] == len(both["embeddings"][0]) == 16
    assert alone["embeddings"][0] == pytest.approx(both["embeddings"][1], abs=1e-5)
    assert both["prompt_tokens"] > alone["prompt_tokens"] > 0
    long = send(served, "embed", {"model": "encoder", "input": "calm " * 300})
    assert (long.status_code, long.json()["code"]) == (400, "context_length_exceeded")
    assert send(served, "embed", {"model": "encoder", "input": []}).status_code == 422
