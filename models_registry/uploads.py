"""Models that people bring: files lie in an incoming folder, a locked child makes a model folder
of them there, and that becomes the next version of the name. A refusal leaves nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import File

from mlserver.api.permissions import ADMIN, has_role
from mlserver.lib import partial
from mlserver.lib.children import run_ml
from mlserver.lib.errors import FieldError, Invalid, NotFound, TooLarge
from mlserver.lib.files import (
    ReceivedFile,
    find_inside,
    incoming_folder,
    receive,
    require_space,
)
from models_registry.access import require_change
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.names import check_name
from models_registry.services import register_version, set_description

CHECK_SECONDS = 600
MAX_FILES = 100  # as many as Django takes in one form


@dataclass(frozen=True, kw_only=True)
class BroughtFile:
    """One file as somebody sends it: its name is only believed by the child that checks it."""

    name: str
    size_bytes: int
    chunks: Iterable[bytes]


def uploaded_files(files: Iterable[File[bytes]]) -> list[BroughtFile]:
    """What came with a request or lies on this machine."""
    return [
        BroughtFile(name=str(file.name), size_bytes=file.size, chunks=file.chunks())
        for file in files
    ]


def add_model(
    *, owner: User, name: str, files: Sequence[BroughtFile], description: str = ""
) -> tuple[ModelVersion, bool]:
    """The files as a version of `name`, and whether it is new: the same files make no second one.

    One archive (ZIP, TAR), one file (ONNX, safetensors), or all the files of a folder. Raises
    Forbidden where the name is somebody else's, ChildRefused where the files are no good model.
    """
    name = check_name(name)
    if existing := RegisteredModel.objects.select_related("owner").filter(name=name).first():
        require_change(owner, existing)  # before anything is written
    if not 0 < len(files) <= MAX_FILES:
        raise _no_files(len(files))
    require_space(settings.MODELS_DIR, sum(file.size_bytes for file in files))
    with incoming_folder(settings.MODELS_DIR) as folder:
        received = _receive(files, folder)
        digest = _digest(files, received)
        if existing and (same := _same(existing, digest)):
            return same, False
        found = run_ml(
            "take_model",
            {
                "folder": str(folder),
                "files": [
                    {"stored": each.path.name, "name": file.name}
                    for file, each in zip(files, received, strict=True)
                ],
                "trust": {
                    "torchscript": settings.ALLOW_TORCHSCRIPT and has_role(owner, ADMIN),
                    "unlocked": settings.ALLOW_UNSANDBOXED_MODELS,
                },
            },
            timeout_seconds=CHECK_SECONDS,
        )
        origin = {"upload": ", ".join(file.name for file in files)[:500], "sha256": digest}
        version = register_version(
            name=name,
            folder=folder / "model",
            owner=owner,
            framework=found["framework"],
            task=found["task"],
            metrics={},
            lineage=origin | found["facts"],
            signature=found["signature"],
            card=found["card"],
            may_rename=False,
        )
    if description:
        set_description(version.model, description, owner)
    return version, True


def add_path(*, owner: User, path: str, name: str = "") -> tuple[ModelVersion, bool]:
    """A file or folder of this machine, like add_model; it lies under MODELS_DIR or one of
    MODEL_IMPORT_DIRS, is copied and not touched. Raises NotFound."""
    roots = [settings.MODELS_DIR, *settings.MODEL_IMPORT_DIRS]
    found = next(
        filter(None, (find_inside(root, path, may_be_folder=True) for root in roots)), None
    )
    if found is None:
        message = f"there is no file or folder {path[:200]!r} in the models directory"
        raise NotFound(
            f"Model not found: {message}, nor in one of MODEL_IMPORT_DIRS.",
            errors=[FieldError(field="path", message=message, value=path[:200])],
        )
    with opened(found) as files:
        return add_model(owner=owner, name=name or found.stem, files=files)


@contextmanager
def opened(path: Path) -> Iterator[list[BroughtFile]]:
    """The file, or the visible files right in the folder; a model's folder has no others."""
    paths = [path]
    if path.is_dir():
        inside = sorted(path.iterdir())
        paths = [each for each in inside if each.is_file() and not each.name.startswith(".")]
    with ExitStack() as stack:
        yield uploaded_files(
            File(stack.enter_context(each.open("rb")), name=each.name) for each in paths
        )


def add_pieces(
    *, owner: User, name: str, upload: str, description: str = ""
) -> tuple[ModelVersion, bool]:
    """A file that came in pieces, like add_model; removed there once it is a version."""
    found = partial.require_complete(partial.find(upload, owner.pk))
    file = BroughtFile(name=found.filename, size_bytes=found.size_bytes, chunks=found.chunks())
    version, is_new = add_model(owner=owner, name=name, files=[file], description=description)
    partial.remove(found)
    return version, is_new


def _receive(files: Sequence[BroughtFile], folder: Path) -> list[ReceivedFile]:
    received: list[ReceivedFile] = []
    left = settings.MAX_UPLOAD_SIZE
    for number, file in enumerate(files):
        received.append(receive(file.chunks, folder / str(number), max_bytes=left))
        left -= received[-1].size_bytes
        if left < 0:
            raise TooLarge(f"The files are larger than {settings.MAX_UPLOAD_SIZE:,} bytes.")
    return received


def _digest(files: Sequence[BroughtFile], received: Sequence[ReceivedFile]) -> str:
    """Of one file its own, of several one of their names and hashes."""
    if len(received) == 1:
        return received[0].sha256
    listed = sorted(f"{r.sha256} {f.name}" for f, r in zip(files, received, strict=True))
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _same(model: RegisteredModel, digest: str) -> ModelVersion | None:
    return model.versions.filter(lineage__sha256=digest).order_by("-number").first()


def _no_files(count: int) -> Invalid:
    message = f"send 1 to {MAX_FILES} files, got {count}; pack a larger folder into a ZIP"
    return Invalid(f"{message}.", errors=[FieldError(field="file", message=message)])
