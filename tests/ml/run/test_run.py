"""One-shot children: one JSON object in, one out, within limits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run(verb: str, payload: Any, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ml.run", verb, *options],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1"},
        timeout=60,
        check=False,
    )


def answer(verb: str, payload: Any, cwd: Path, *options: str) -> Any:
    done = run(verb, payload, cwd, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_csv(folder: Path, content: str) -> dict[str, str]:
    (folder / "upload").write_text(content)
    return {"folder": str(folder), "file": "upload"}


def test_it_imports_a_dataset(tmp_path: Path) -> None:
    result = answer("import_dataset", write_csv(tmp_path, "a,label\n1,x\n2,y\n"), tmp_path)

    assert result["ok"] is True
    assert result["result"]["classes"] == ["x", "y"]


def test_a_bad_file_is_an_answer_with_its_place(tmp_path: Path) -> None:
    result = answer("import_dataset", write_csv(tmp_path, "a,label\n1\n"), tmp_path)

    assert result["ok"] is False
    assert result["error"] == {
        "code": "data_error",
        "message": "Row 1 has 1 value, the header has 2 columns."
        " Put quotes around a value that contains the delimiter.",
        "row": 1,
        "column": None,
        "byte": None,
    }


def test_it_previews_any_page(tmp_path: Path) -> None:
    rows = "".join(f"{index},x\n" for index in range(250))
    answer("import_dataset", write_csv(tmp_path, "a,label\n" + rows), tmp_path)

    page = answer("preview", {"folder": str(tmp_path), "offset": 240, "limit": 100}, tmp_path)

    assert page["result"]["total"] == 250
    assert [row[0] for row in page["result"]["rows"]] == list(range(240, 250))


def test_a_file_that_needs_too_much_memory_is_refused_with_a_sentence(tmp_path: Path) -> None:
    rows = ",".join(['{"a": 1, "b": 2, "label": "text"}'] * 1_000_000)
    payload = write_csv(tmp_path, f"[{rows}]")  # a document, which is read whole

    result = answer("import_dataset", payload, tmp_path, "--memory-bytes", str(300 * 2**20))

    assert result["error"]["code"] == "out_of_memory"


def test_an_unknown_verb_is_refused(tmp_path: Path) -> None:
    assert answer("dance", {}, tmp_path)["error"]["code"] == "unknown_verb"


def test_what_libraries_print_is_kept_out_of_the_answer(tmp_path: Path) -> None:
    script = (
        "import os, sys; from ml.run.__main__ import claim_stdout; answers = claim_stdout();"
        "print('chatter'); os.write(1, b'chatter from C'); answers.write('{}'); answers.close()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )

    assert done.stdout == "{}"
    assert "chatter from C" in done.stderr


@pytest.mark.parametrize("module", ["ml.run.__main__", "ml.run.verbs"])
def test_nothing_heavy_is_imported_before_the_limits_are_set(tmp_path: Path, module: str) -> None:
    script = (
        f"import sys, {module}; heavy = {{'numpy', 'pyarrow', 'torch', 'sklearn'}};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )

    assert done.stdout.strip() == "[]"


def test_no_child_resolves_datasets_to_the_app_of_this_project(tmp_path: Path) -> None:
    script = "import importlib.util; print(importlib.util.find_spec('datasets'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )

    assert done.stdout.strip() == "None"
