"""Every hostile file is refused for its reason, within limits of time and memory."""

from pathlib import Path
from typing import Any

import pytest

from mlserver.lib.children import ChildRefused, run_ml
from tests.hostile.files import CASES, Case, is_owned

SECONDS = 120
MEMORY_BYTES = 2**30
TRUST = {"torchscript": False, "unlocked": False}


def open_in_child(case: Case, folder: Path, memory_bytes: int = MEMORY_BYTES) -> Any:
    (folder / "0").write_bytes(case.make())
    if case.door == "models":
        payload = {"files": [{"stored": "0", "name": case.name}], "trust": TRUST}
        verb = "take_model"
    else:
        payload = {"file": "0", "format": case.name.rsplit(".", 1)[1]}
        verb = "import_dataset"
    payload["folder"] = str(folder)
    return run_ml(verb, payload, timeout_seconds=SECONDS, memory_bytes=memory_bytes)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    with pytest.raises(ChildRefused) as caught:
        open_in_child(case, tmp_path)
    assert case.reason in caught.value.detail
    assert not is_owned()
