"""The trash: what is put in comes out, also over the edge of a volume."""

import errno
from pathlib import Path

import pytest
from pytest_django import Settings

from mlserver.lib import trash


def put(folder: Path, name: str = "thing") -> trash.Entry:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("content")
    entry = trash.open_entry(
        "things", name, label=name, owner_id=1, by="me", facts={"x": 1}, folders={"a": folder}
    )
    entry.fill()
    return entry


def test_a_folder_goes_in_and_comes_out(tmp_path: Path) -> None:
    put(tmp_path / "here")
    assert not (tmp_path / "here").exists()

    [entry] = trash.list_entries("things", "thing")
    assert (entry.facts, entry.owner_id, entry.deleted_by) == ({"x": 1}, 1, "me")
    entry.take_back("a", tmp_path / "there" / "v1")
    assert (tmp_path / "there" / "v1" / "sub" / "file").read_text() == "content"
    entry.forget()
    assert trash.list_entries("things") == []


def test_names_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path / "1", "iris")
    put(tmp_path / "2", "iris-2")

    assert [entry.name for entry in trash.list_entries("things", "iris")] == ["iris"]
    assert trash.list_entries("others") == []


def test_what_lies_on_another_volume_is_copied_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if Path(target).is_relative_to(settings.TRASH_DIR) and ".partial" not in self.name:
            raise OSError(errno.EXDEV, "another volume")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    entry = put(tmp_path / "here")

    assert not (tmp_path / "here").exists()
    assert (entry.path / "a" / "sub" / "file").read_text() == "content"


def test_only_what_is_old_is_removed(tmp_path: Path) -> None:
    put(tmp_path / "here")

    assert trash.empty_trash("things") == 0
    assert trash.empty_trash("things", days=0) == 1
