"""The same attacks on a weakened build: with a check or the lock taken out they go through, so the
tests beside this one are alive."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.lock import landlock
from tests.hostile import files
from tests.hostile.files import CASES
from tests.hostile.test_refused import TRUST
from tests.models_registry.brought import TOKENIZER, pack_zip

LIMITED = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
verb, payload = json.loads(sys.argv[1])
"""
LOCK = "from pathlib import Path; from ml.lock import lock; lock(write=[Path(payload['folder'])])\n"
VERB = "from ml.run.verbs import run_verb; print(json.dumps(run_verb(verb, payload)))\n"

# What is taken out, for a case that is then accepted.
CHECKS = {
    "a pickle in a ZIP": (
        "from ml.formats import state_dict; state_dict.look_through = lambda path: None"
    ),
    "4 GiB from a few bytes": (
        "from ml.formats import onnx_file; onnx_file._check_sizes = lambda *a: None"
    ),
    "16 GiB from a shape": (
        "from ml.formats import onnx_file; onnx_file._check_sizes = lambda *a: None"
    ),
    "a padding of 4e9": (
        "from ml.formats import huggingface; huggingface.check_tokenizer = lambda *a: None"
    ),
    "a header of 84 MB": "from ml.formats import header; header.MAX_HEADER_BYTES = 2**30",
}
# Libraries that a hostile file brings down when it gets through to them.
CRASHES = {
    "3,000 nested functions": "InferenceSession(payload['folder'] + '/0')",
    "4 GiB from a few bytes": "InferenceSession(payload['folder'] + '/0').run(None, {})",
}


def run(folder: Path, name: str, *parts: str, content: bytes | None = None) -> Any:
    case = CASES[name]
    (folder / "0").write_bytes(case.make() if content is None else content)
    if case.door == "models":
        payload = {"files": [{"stored": "0", "name": case.name}], "trust": TRUST, "is_locked": True}
        verb = "take_model"
    else:
        payload, verb = {"file": "0", "format": case.name.rsplit(".", 1)[1]}, "import_dataset"
    arguments = json.dumps([verb, payload | {"folder": str(folder)}])
    return subprocess.run(
        [sys.executable, "-P", "-c", LIMITED + "\n".join(parts), arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", CHECKS)
def test_without_its_check_the_file_is_accepted(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, name, CHECKS[name], VERB)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True, done.stdout


@pytest.mark.parametrize("name", CRASHES)
def test_unchecked_it_brings_the_library_down(tmp_path: Path, name: str) -> None:
    assert (
        run(tmp_path, name, "from onnxruntime import InferenceSession", CRASHES[name]).returncode
        != 0
    )


def test_an_unchecked_padding_aborts_the_process(tmp_path: Path) -> None:
    content = json.dumps(TOKENIZER | {"padding": files.PADDING}).encode()
    code = "import tokenizers; tokenizers.Tokenizer.from_file('0').encode('a')"
    assert run(tmp_path, "a padding of 4e9", code, content=content).returncode == -6


def test_unchecked_rows_take_all_memory(tmp_path: Path) -> None:
    less = "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))"
    without = "from ml.data import parquet; parquet.MAX_DECODED_BYTES = 2**60"
    done = run(tmp_path, "300 million rows", less, without, VERB)
    assert done.returncode != 0 or json.loads(done.stdout)["error"]["code"] == "out_of_memory"


SLIP = "from ml.data import archive; archive._check_name = lambda *a: None\n"


@pytest.mark.parametrize("is_locked", [False, True])
def test_an_archive_that_leads_out_writes_outside_unless_locked(
    tmp_path: Path, is_locked: bool
) -> None:
    folder = tmp_path / "incoming" / "upload"
    folder.mkdir(parents=True)
    content = pack_zip({"../../evil": b"owned"})
    done = run(folder, "a ZIP that leads out", SLIP, LOCK * is_locked, VERB, content=content)

    assert (tmp_path / "incoming" / "evil").exists() is not is_locked, done.stderr


@pytest.mark.skipif(not landlock.find_version(), reason="no Landlock here")
@pytest.mark.parametrize("is_locked", [False, True])
def test_a_pickle_that_is_opened_does_its_work_unless_locked(
    tmp_path: Path, is_locked: bool
) -> None:
    marker = tmp_path / "owned"
    folder = tmp_path / "upload"
    folder.mkdir()
    content = files.evil_pickle(marker=str(marker))
    run(
        folder,
        "a bare pickle",
        LOCK * is_locked,
        "import pickle; pickle.load(open('0', 'rb'))",
        content=content,
    )

    assert marker.exists() is not is_locked
