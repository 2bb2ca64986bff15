"""ml.rundir: files that are whole or absent, a journal that loses nothing, one owner."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ml.rundir import Journal, LockHeld, RunDir, read_events, read_json, write_json


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "train_1")
    run.create({"session": "train_1"})
    return run


def write_checkpoint(run: RunDir, step: int, data: bytes = b"weights") -> Path:
    folder = run.checkpoints_path / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(data)
    facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_json(folder / "COMPLETE", {"model.safetensors": facts})
    return folder


def test_a_configuration_is_read_as_it_was_written(run: RunDir) -> None:
    assert read_json(run.config_path) == {"session": "train_1"}


def test_writing_leaves_no_temporary_file(run: RunDir) -> None:
    write_json(run.result_path, {"status": "completed", "loss": float("nan")})
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "result.json"]
    assert read_json(run.result_path) == {"status": "completed", "loss": None}


def test_a_file_that_is_not_json_is_named(run: RunDir) -> None:
    run.config_path.write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not valid JSON"):
        read_json(run.config_path)


def test_the_control_is_run_until_somebody_wants_something_else(run: RunDir) -> None:
    assert run.read_control() == "run"
    run.write_control("pause")
    assert run.read_control() == "pause"


def test_it_refuses_an_unknown_control(run: RunDir) -> None:
    with pytest.raises(ValueError, match="run, pause, cancel, checkpoint; got 'stop'"):
        run.write_control("stop")


def test_a_result_of_another_attempt_does_not_count(run: RunDir) -> None:
    write_json(run.result_path, {"status": "failed", "attempt": 1})
    assert run.read_result(2) is None
    assert run.read_result(1) == {"status": "failed", "attempt": 1}
    assert run.read_exit(1) is None


def test_the_next_attempt_follows_the_highest(run: RunDir) -> None:
    assert run.next_attempt() == 1
    run.attempt_path(9).mkdir()
    run.attempt_path(10).mkdir()
    assert run.next_attempt() == 11


def test_events_are_numbered_and_numbers_that_are_none_become_null(run: RunDir) -> None:
    path = run.journal_path(2)
    with Journal(path, attempt=2) as journal:
        journal.write("step", loss=float("inf"), parts=[float("nan"), 1.5])
        journal.write("completed", epochs=1)
    events, offset = read_events(path, 0)
    assert [(event["seq"], event["attempt"], event["type"]) for event in events] == [
        (1, 2, "step"),
        (2, 2, "completed"),
    ]
    assert events[0]["loss"] is None
    assert events[0]["parts"] == [None, 1.5]
    assert events[0]["at"].endswith("Z")
    assert offset == path.stat().st_size


def test_a_torn_last_line_is_left_for_the_next_reading(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"seq":1}\n{"se')
    events, offset = read_events(path, 0)
    assert (events, offset) == ([{"seq": 1}], 10)
    with path.open("a") as file:
        file.write('q":2}\n')
    assert read_events(path, offset) == ([{"seq": 2}], 20)


def test_a_damaged_line_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"seq":1}\n\xff\r{{\n[1]\n{"seq":2}\n')
    events, _ = read_events(path, 0)
    damaged = [{"type": "damaged", "offset": 10}, {"type": "damaged", "offset": 15}]
    assert events == [{"seq": 1}, *damaged, {"seq": 2}]


def test_reading_in_small_pieces_gives_every_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps({"seq": n, "text": "ä" * n * 20}) + "\n" for n in range(20)))
    found, offset = [], 0
    while pieces := read_events(path, offset, limit_bytes=64):
        events, offset = pieces
        if not events:
            break
        found += [event["seq"] for event in events]
    assert found == list(range(20))


def test_a_journal_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "events.jsonl", 0) == ([], 0)


def test_a_full_disk_is_an_error_of_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    with Journal(path, attempt=1) as journal, pytest.raises(OSError, match="No space left"):
        journal.write("log", message="x")


HOLD_LOCK = """
import sys
from pathlib import Path
from ml.rundir import RunDir
RunDir(Path(sys.argv[1])).take_lock(attempt=3)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_owns_the_run_until_it_ends(run: RunDir) -> None:
    assert not run.is_locked()
    holder = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD_LOCK, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    owner = run.lock_owner() or {}
    assert run.is_locked()
    assert (owner["pid"], owner["attempt"]) == (holder.pid, 3)
    with pytest.raises(LockHeld):
        run.take_lock(attempt=4)
    holder.communicate()
    assert not run.is_locked()


def test_only_whole_checkpoints_count_and_the_oldest_comes_first(run: RunDir) -> None:
    last, first = write_checkpoint(run, 1_000_000), write_checkpoint(run, 20)
    short, unfinished = write_checkpoint(run, 30), write_checkpoint(run, 40)
    (short / "model.safetensors").write_bytes(b"w")
    (unfinished / "COMPLETE").unlink()
    (run.checkpoints_path / ".tmp-step-000050").mkdir()
    (run.checkpoints_path / "unused-step-000060").mkdir()
    assert run.complete_checkpoints() == [first, last]


def test_a_run_without_checkpoints_has_none(run: RunDir) -> None:
    assert run.complete_checkpoints() == []
