"""What one-shot children can do, by name, and how their errors are told.

A verb takes the payload and returns JSON. Its imports are inside it, so that each child
loads only what it needs.
"""

import errno
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_TRIED_BYTES = 2**30
"""A child has 4 GiB, and PyTorch and a second copy of the weights lie in them, too."""

Payload = dict[str, Any]
Answer = dict[str, Any]


def _nothing(payload: Payload) -> list[Path]:
    return []


def _folder(payload: Payload) -> list[Path]:
    return [Path(payload["folder"])]


def _folders(payload: Payload) -> list[Path]:
    return [Path(folder) for folder in payload["folders"].values()]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What a child can do, and which folders stay open to it when it is locked in."""

    run: Callable[[Payload], Any]
    reads: Callable[[Payload], list[Path]] = _nothing
    writes: Callable[[Payload], list[Path]] = _nothing
    opens_strange_files: bool = True


def run_verb(verb: str, payload: Payload) -> Answer:
    """Never raises for a bad file; anything unforeseen ends the child with a traceback."""
    from ml.data.content import DataError
    from ml.formats.refusal import ModelRefused

    if verb not in VERBS:
        return _refusal("unknown_verb", f"There is no verb {verb!r}; there are {', '.join(VERBS)}.")
    try:
        return {"ok": True, "result": VERBS[verb].run(payload)}
    except DataError as error:
        return _refusal(error.code, error.message, error.row, error.column, error.byte)
    except ModelRefused as refusal:
        return _refusal(refusal.code, refusal.message)
    except MemoryError:
        return _refusal(
            "out_of_memory",
            "Reading the file takes more memory than one file may use;"
            " split it, or save its numbers as NPZ.",
        )
    except OSError as error:
        if error.errno == errno.EFBIG:
            return _refusal("too_large", "It unpacks to more than one file may hold; split it.")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _refusal("disk_full", "The disk is full.")


def _refusal(
    code: str,
    message: str,
    row: int | None = None,
    column: str | None = None,
    byte: int | None = None,
) -> Answer:
    error = {"code": code, "message": message, "row": row, "column": column, "byte": byte}
    return {"ok": False, "error": error}


def import_dataset(payload: Payload) -> Any:
    from ml.data import importer

    return importer.import_dataset(
        Path(payload["folder"]), payload["file"], payload.get("format"), payload.get("target")
    )


def preview(payload: Payload) -> Any:
    from ml.data.loader import read_version, read_version_schema
    from ml.data.preview import preview_rows

    folder = Path(payload["folder"])
    schema = read_version_schema(folder)
    content = read_version(folder, schema)
    return preview_rows(content, payload["offset"], payload["limit"])


def statistics(payload: Payload) -> Any:
    from ml.data.loader import read_version, read_version_schema
    from ml.data.statistics import describe_content

    folder = Path(payload["folder"])
    schema = read_version_schema(folder)
    return describe_content(read_version(folder, schema), schema["target"])


def builtin_dataset(payload: Payload) -> Any:
    from ml.data import builtin

    return builtin.builtin_dataset(payload["name"], Path(payload["folder"]))


def builtin_datasets(payload: Payload) -> Any:
    """Several in one child: scikit-learn takes longer to import than to write them all."""
    from ml.data import builtin

    descriptions = {each["name"]: each["description"] for each in builtin.list_builtins()}
    return {
        name: {
            "schema": builtin.builtin_dataset(name, Path(folder)),
            "description": descriptions[name],
        }
        for name, folder in payload["folders"].items()
    }


def corpus(payload: Payload) -> Any:
    from ml.corpora.build import build_corpus

    return build_corpus(payload["name"], Path(payload["folder"]), payload["most_files"])


def list_builtins(payload: Payload) -> Any:
    from ml.data import builtin

    return builtin.list_builtins()


def take_model(payload: Payload) -> Any:
    from ml.formats.brought import MODEL, Trust, take_model

    trust = Trust(**payload["trust"], is_locked=payload["is_locked"])
    folder = Path(payload["folder"])
    found = take_model(folder, payload["files"], trust)
    if found["framework"] == "torch.export":
        _try_out(folder / MODEL)
    return found


def _try_out(folder: Path) -> None:
    """Only PyTorch knows whether it can read and run a program of another release of it."""
    from ml.formats.refusal import ModelRefused

    if sum(path.stat().st_size for path in folder.iterdir()) > MAX_TRIED_BYTES:
        return  # its first loading tells
    from ml.serve.errors import LoadRefused
    from ml.serve.runtimes import Options, open_runtime
    from ml.serve.warmup import warm_up

    try:
        warm_up(open_runtime(folder, Options()))
    except LoadRefused as error:
        raise ModelRefused(error.message) from error


def look(payload: Payload) -> Any:
    """A training that does not start: what the model will see, and how large it is."""
    tempfile.tempdir = payload["scratch"]  # torch asks for one when transformers is there
    from ml.config import parse_config
    from ml.train.look import look

    return look(parse_config(payload["config"]), payload["samples"])


def _scratch(payload: Payload) -> list[Path]:
    return [Path(payload["scratch"])]


def _places(payload: Payload) -> list[Path]:
    config = payload["config"]
    references = (config["dataset"], config.get("base_model"))
    return [Path(each["path"]) for each in references if isinstance(each, dict)]


def describe_torch(payload: Payload) -> Any:
    """Which torch is installed here, and which GPUs it can use."""
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as told:  # torch says there why it sees none
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda and f"CUDA {torch.version.cuda}",
        "hip": torch.version.hip and f"ROCm {torch.version.hip}",
        "devices": [torch.cuda.get_device_name(index) for index in range(count)],
        "reason": " ".join(str(each.message).split(" (Triggered")[0] for each in told),
    }


VERBS: dict[str, Verb] = {
    "import_dataset": Verb(run=import_dataset, writes=_folder),
    "preview": Verb(run=preview, reads=_folder),
    "statistics": Verb(run=statistics, reads=_folder),
    "builtin_dataset": Verb(run=builtin_dataset, writes=_folder),
    "builtin_datasets": Verb(run=builtin_datasets, writes=_folders),
    "corpus": Verb(run=corpus, opens_strange_files=False),
    "list_builtins": Verb(run=list_builtins),
    "take_model": Verb(run=take_model, writes=_folder),
    "look": Verb(run=look, reads=_places, writes=_scratch),
    "torch": Verb(run=describe_torch, opens_strange_files=False),
}
