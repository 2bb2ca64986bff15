"""TorchScript is a program: refused, and where it is allowed, only arithmetic, and only locked."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mlserver.lib.children import ChildRefused, run_ml
from tests.hostile.test_weakened import LOCK, run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Reader(torch.nn.Module):
    """Answers with the bytes of a file, whatever it is asked."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file(self.path, shared=False, size=6, dtype=torch.uint8)


class Doubler(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * self.weight * 2
        return x


def script(module: torch.nn.Module, path: Path) -> bytes:
    torch.jit.save(torch.jit.script(module), path)
    return path.read_bytes()


def take(folder: Path, content: bytes, **trust: bool) -> Any:
    (folder / "0").write_bytes(content)
    payload = {
        "folder": str(folder),
        "files": [{"stored": "0", "name": "model.pt"}],
        "trust": {"torchscript": False, "unlocked": False, **trust},
    }
    return run_ml("take_model", payload)


@pytest.fixture
def reader(tmp_path: Path) -> bytes:
    (tmp_path / "secret").write_text("s3cret")
    return script(Reader(str(tmp_path / "secret")), tmp_path / "reader.pt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "upload"
    folder.mkdir()
    return folder


def test_it_is_refused_unless_the_server_allows_it(folder: Path, tmp_path: Path) -> None:
    content = script(Doubler(), tmp_path / "doubler.pt")
    with pytest.raises(ChildRefused, match="which is a program"):
        take(folder, content)


def test_where_it_is_allowed_arithmetic_is_accepted(folder: Path, tmp_path: Path) -> None:
    found = take(folder, script(Doubler(), tmp_path / "doubler.pt"), torchscript=True)

    assert (found["framework"], found["facts"]["parameter_count"]) == ("torchscript", 3)


def test_one_that_reads_a_file_is_refused_by_its_operator(folder: Path, reader: bytes) -> None:
    with pytest.raises(ChildRefused, match="uses aten::from_file"):
        take(folder, reader, torchscript=True)


@pytest.mark.parametrize("is_locked", [False, True])
def test_unchecked_it_reads_the_file_unless_locked(
    folder: Path, reader: bytes, is_locked: bool
) -> None:
    opens = "import torch; print(bytes(torch.jit.load('0')(torch.ones(1)).tolist()))"
    done = run(folder, "a bare pickle", LOCK * is_locked, opens, content=reader)

    assert ("s3cret" in done.stdout) is not is_locked
