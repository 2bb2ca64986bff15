"""One-shot children as Django calls them: answers, refusals, and every way to end badly."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlserver.lib import children
from mlserver.lib.children import (
    ChildCrashed,
    ChildFailed,
    ChildOutOfMemory,
    ChildRefused,
    ChildTimedOut,
    child_environment,
    run_ml,
)
from tests.waiting import has_ended, wait_until


def payload(folder: Path, content: str | bytes) -> dict[str, Any]:
    data = content.encode() if isinstance(content, str) else content
    (folder / "upload").write_bytes(data)
    return {"folder": str(folder), "file": "upload"}


def instead(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Start a child that behaves as `script` says, in the same way as the real one."""
    start = children._start
    monkeypatch.setattr(children, "_start", lambda command: start([command[0], "-P", "-c", script]))


def test_it_returns_what_the_verb_returns(tmp_path: Path) -> None:
    schema = run_ml("import_dataset", payload(tmp_path, "a,label\n1,x\n2,y\n"))

    assert schema["sample_count"] == 2


def test_a_refusal_keeps_the_place(tmp_path: Path) -> None:
    with pytest.raises(ChildRefused) as caught:
        run_ml("import_dataset", payload(tmp_path, "a,label\n1,x\n2\n"))

    assert (caught.value.status, caught.value.row) == (422, 2)
    assert caught.value.errors[0].field == "file"


def test_a_file_that_needs_too_much_memory_is_a_sentence(tmp_path: Path) -> None:
    # pyarrow aborts its process when memory ends; only a parent can say so.
    content = "a,label\n" + "12345678,text\n" * 3_000_000

    with pytest.raises((ChildOutOfMemory, ChildRefused)) as caught:
        run_ml("import_dataset", payload(tmp_path, content), memory_bytes=400 * 2**20)
    assert caught.value.code == "out_of_memory"


def test_a_child_that_hangs_is_killed_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    instead(
        monkeypatch,
        "import os, subprocess, time; child = subprocess.Popen(['sleep', '300']);"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}'); time.sleep(300)",
    )

    with pytest.raises(ChildTimedOut):
        run_ml("import_dataset", {}, timeout_seconds=10)
    for pid in pids.read_text().split():
        wait_until(partial(has_ended, int(pid)))


def test_a_signal_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "import os; os.kill(os.getpid(), 11)")

    with pytest.raises(ChildCrashed, match="SIGSEGV"):
        run_ml("import_dataset", {})


def test_sigkill_is_taken_for_the_memory_killer(monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "import os; os.kill(os.getpid(), 9)")

    with pytest.raises(ChildOutOfMemory):
        run_ml("import_dataset", {})


def test_an_unforeseen_error_is_the_servers_and_its_traceback_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instead(monkeypatch, "raise KeyError('secret inside')")

    with pytest.raises(ChildFailed) as caught:
        run_ml("import_dataset", {})
    assert caught.value.status == 500
    assert "secret" not in caught.value.detail
    assert "secret inside" in caplog.text


def test_a_child_sees_nothing_of_our_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    instead(
        monkeypatch,
        "import importlib.util, json, os; print(json.dumps({'ok': True, 'result': {"
        "'variables': sorted(os.environ), 'folder': os.getcwd(),"
        "'datasets': str(importlib.util.find_spec('datasets'))}}))",
    )

    seen = run_ml("import_dataset", {})

    assert set(seen["variables"]) <= {"PATH", "HOME", "LANG", "LC_CTYPE", "PYTHONSAFEPATH"}
    assert seen["folder"] == "/"
    assert seen["datasets"] == "None", "the app must not shadow Hugging Face's package"


def test_the_environment_of_children_is_safe() -> None:
    assert child_environment()["PYTHONSAFEPATH"] == "1"
