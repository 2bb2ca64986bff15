"""Files: limits on the way in, nothing half-done, nothing outside."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlserver.lib import files
from mlserver.lib.errors import NoSpace, TooLarge
from mlserver.lib.files import (
    find_inside,
    incoming_folder,
    move_into_place,
    receive,
    remove_old_incoming,
    require_space,
)


def test_it_counts_and_hashes_what_it_writes(tmp_path: Path) -> None:
    received = receive([b"ab", b"c"], tmp_path / "f", max_bytes=3)

    assert received.path.read_bytes() == b"abc"
    assert received.size_bytes == 3
    assert received.sha256 == hashlib.sha256(b"abc").hexdigest()


def test_too_many_bytes_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        receive([b"ab", b"cd"], tmp_path / "f", max_bytes=3)
    assert not (tmp_path / "f").exists()


def test_a_stream_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        receive(broken(), tmp_path / "f", max_bytes=100)
    assert not (tmp_path / "f").exists()


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    def full() -> Iterator[bytes]:
        yield b"ab"
        raise OSError(28, "No space left on device")

    with pytest.raises(NoSpace):
        receive(full(), tmp_path / "f", max_bytes=100)
    assert not (tmp_path / "f").exists()


def test_space_is_looked_at_before(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="are free"):
        require_space(tmp_path, 2**60)


def test_space_is_looked_at_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_EVERY_BYTES", 2)
    monkeypatch.setattr(files, "SPARE_BYTES", 2**60)

    with pytest.raises(NoSpace):
        receive([b"abc"], tmp_path / "f", max_bytes=100)
    assert not (tmp_path / "f").exists()


def test_an_incoming_folder_is_gone_unless_it_was_moved(tmp_path: Path) -> None:
    with incoming_folder(tmp_path) as left, incoming_folder(tmp_path) as moved:
        (moved / "f").write_text("x")
        move_into_place(moved, tmp_path / "iris" / "v1")

    assert not left.exists()
    assert (tmp_path / "iris" / "v1" / "f").read_text() == "x"


def test_what_a_killed_upload_left_is_cleared_away_when_it_is_old(tmp_path: Path) -> None:
    for name, age_seconds in (("old", 7200), ("young", 60)):
        folder = tmp_path / files.INCOMING / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age_seconds,) * 2)

    assert remove_old_incoming(tmp_path, 3600) == 1
    assert [folder.name for folder in (tmp_path / files.INCOMING).iterdir()] == ["young"]


def test_it_finds_a_file_inside(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f.csv").touch()

    assert find_inside(tmp_path, "sub/f.csv") == (tmp_path / "sub" / "f.csv").resolve()
    assert find_inside(tmp_path, str(tmp_path / "sub" / "f.csv")) is not None


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "../root/f", "sub/../f", "/etc/passwd", "missing", "sub", "f\0"),
        *("a" * 5000, ".incoming/f", "link", "linked/passwd", "loop"),
    ],
)
def test_nothing_else_is_found(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / ".incoming").mkdir()
    for name in ("f", ".incoming/f"):
        (root / name).touch()
    (root / "link").symlink_to("/etc/passwd")
    (root / "linked").symlink_to("/etc")
    (root / "loop").symlink_to("loop")

    assert find_inside(root, path) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.text(max_size=30))
def test_no_text_leads_outside(tmp_path: Path, path: str) -> None:
    found = find_inside(tmp_path, path)

    assert found is None or found.is_relative_to(tmp_path.resolve())
