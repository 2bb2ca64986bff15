"""Opens a .pt2 archive (torch.export.save) without torch: what it holds, and whether that is safe.

torch.export.load opens pickles without a guard, evaluates sizes and imports what a file names. So
the file is read here first, with the standard library, and written anew from what was judged:
the graph, the weights as raw bytes, nothing else.
Format: torch/export/pt2_archive/_package.py
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml.formats.exported_graph import Program, check_graph, check_tensor, item_bytes
from ml.formats.refusal import ModelRefused

NAME = "model.pt2"
MAX_MEMBERS = 100_000
MAX_GRAPH_BYTES = 128 * 2**20
READS = "torch 2.11 to 2.13"
SCHEMA = 8
"""The first number of the schema's version that these read (SCHEMA_VERSION)."""
GRAPH = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
FIXED = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
CONTAINER = {".data/version": b"6\n"}
"""Of PyTorch's ZIP files; without it none is opened."""
KEPT = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+", re.ASCII)
# Left out: pickled sample inputs, files of the writer's own choice, marks of the container.
NEEDLESS = re.compile(
    r"data/sample_inputs/[^/]+\.pt|extra/.*|version|\.format_version|\.storage_alignment"
    r"|\.data/.*"
)
SAMPLES = "data/sample_inputs/model.pt"
CHUNK_BYTES = 2**20

Facts = dict[str, Any]


class Archive:
    """A .pt2 file whose members are the known ones, each once and as long as it says."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.file = path.name
        self._opened = opened
        self._needless: dict[str, int] = {}
        """What is left out, with its bytes."""
        self._members = self._find_members()

    def sizes(self) -> dict[str, int]:
        return {name: member.file_size for name, member in self._members.items()}

    def read(self, name: str, most: int = MAX_GRAPH_BYTES) -> bytes:
        member = self._members.get(name)
        if member is None:
            raise ModelRefused(f"{self.file} has no {name}; it was not written to its end.")
        if member.file_size > most:
            raise ModelRefused(
                f"{self.file}: {name} has {member.file_size:,} bytes; at most {most:,} are read.",
                code="too_large",
            )
        return self._opened.read(member)

    def read_json(self, name: str) -> Facts:
        try:
            content = json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise ModelRefused(f"{self.file}: {name} is not JSON: {str(error)[:200]}.") from error
        if not isinstance(content, dict):
            raise ModelRefused(f"{self.file}: {name} must hold a JSON object.")
        return content

    def copy(self, name: str, target: zipfile.ZipFile) -> None:
        """As it is; its checksum is compared on the way."""
        info = zipfile.ZipInfo(f"model/{name}")
        with (
            self._opened.open(self._members[name]) as reader,
            target.open(info, "w", force_zip64=True) as writer,
        ):
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)

    def _find_members(self) -> dict[str, zipfile.ZipInfo]:
        infos = [info for info in self._opened.infolist() if not info.is_dir()]
        if len(infos) > MAX_MEMBERS:
            raise ModelRefused(f"{self.file} has {len(infos):,} parts; it is not read.")
        root = infos[0].filename.split("/", 1)[0] + "/" if infos else ""
        found = {info.filename.removeprefix(root): info for info in infos}
        if "serialized_exported_program.json" in {Path(info.filename).name for info in infos}:
            raise self._unreadable("by torch 2.7 or older")
        if len(found) < len(infos) or not all(info.filename.startswith(root) for info in infos):
            raise ModelRefused(f"{self.file} holds a name twice, or several folders; save it anew.")
        for name, info in found.items():
            self._check_member(name, info)
        needless = {name for name in found if NEEDLESS.fullmatch(name)}
        self._needless = {name: found[name].file_size for name in needless}
        return {name: info for name, info in found.items() if name not in needless}

    def _check_member(self, name: str, info: zipfile.ZipInfo) -> None:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ModelRefused(f"{self.file}: {name[:100]} is compressed, which torch never does.")
        known = (*FIXED, *CONFIGS, GRAPH)
        if name in known or KEPT.fullmatch(name) or NEEDLESS.fullmatch(name):
            return
        if name.startswith("data/aotinductor/"):
            raise ModelRefused(
                f"{self.file} holds compiled code (AOTInductor), which is never run here; save the"
                " program itself with torch.export.save.",
                code="compiled_code",
            )
        if name.endswith(".pt") or "_obj_" in name:
            raise _pickled(self.file, name)
        raise ModelRefused(
            f"{self.file} holds {name[:100]!r}, which is not part of one exported program; save it"
            " with torch.export.save."
        )

    def _unreadable(self, by: str) -> ModelRefused:
        return ModelRefused(
            f"{self.file} was written {by} and cannot be read by {READS}; export the model again"
            " with one of these, or as ONNX.",
            code="other_version",
        )

    def require_taken(self, graph: Facts) -> None:
        """Nothing that torch would read was left unjudged: take_exported has written it."""
        unjudged = any(size for name, size in self._needless.items() if name not in CONTAINER)
        if unjudged or self.read(GRAPH) != _as_bytes(graph):
            raise ModelRefused(
                f"{self.file} was not taken in by this server, which leaves out what torch might"
                " run; upload it, or use manage.py import_model."
            )

    def require_version(self) -> None:
        for name, wanted in FIXED.items():
            if self.read(name, most=40) != wanted:
                raise ModelRefused(
                    f"{self.file}: {name} is {self.read(name)[:40]!r}; {wanted!r} is read.",
                    code="other_version",
                )

    def require_schema(self, program: Facts) -> None:
        version = program.get("schema_version")
        major = version.get("major") if isinstance(version, dict) else None
        if major != SCHEMA:
            writer = str(program.get("torch_version", "an unknown version"))[:40]
            raise self._unreadable(f"by torch {writer} (schema {str(major)[:20]}, not {SCHEMA})")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Raises ModelRefused where the container is none, or damaged while it is read."""
    try:
        with zipfile.ZipFile(path) as opened:
            yield Archive(path, opened)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise ModelRefused(
            f"{path.name} is no sound .pt2 archive: {str(error)[:200]}; it may be cut off."
        ) from error


def check_exported(path: Path) -> Program:
    """What a program that take_exported has written takes and gives; raises ModelRefused."""
    with open_archive(path) as archive:
        graph, program, _ = _check(archive)
        archive.require_taken(graph)
    return program


def take_exported(path: Path, target: Path) -> tuple[Program, int]:
    """What it takes and gives, and how many parameters it has; `target` becomes the archive
    without anything that was not judged. Raises ModelRefused."""
    with open_archive(path) as archive:
        graph, program, parameters = _check(archive)
        with zipfile.ZipFile(target, "w") as written:
            # First: torch takes the archive's name from it.
            for name, content in (FIXED | CONTAINER).items():
                written.writestr(f"model/{name}", content)
            written.writestr(f"model/{GRAPH}", _as_bytes(graph))
            written.writestr(f"model/{SAMPLES}", b"")
            for name in (*CONFIGS, *filter(KEPT.fullmatch, archive.sizes())):
                archive.copy(name, written)
    return program, parameters


def _as_bytes(graph: Facts) -> bytes:
    return json.dumps(graph).encode()


def _check(archive: Archive) -> tuple[Facts, Program, int]:
    archive.require_version()
    graph = archive.read_json(GRAPH)
    archive.require_schema(graph)
    program = check_graph(graph, archive.file)
    counts = [_check_payloads(archive, name) for name in CONFIGS]
    return graph, program, counts[0]


def _check_payloads(archive: Archive, config: str) -> int:
    """Every tensor lies wholly in its raw bytes; returns how many values the parameters have."""
    sizes, folder = archive.sizes(), config.rpartition("/")[0]
    parameters = 0
    try:
        for name, payload in archive.read_json(config)["config"].items():
            place = f"{folder}/{payload['path_name']}"
            if payload["use_pickle"] is not False:
                raise _pickled(archive.file, place)
            if not re.fullmatch(r"[\w.]{1,300}", name, re.ASCII) or not KEPT.fullmatch(place):
                raise ModelRefused(f"{archive.file}: {name[:100]!r} is no plain name of a tensor.")
            tensor = payload["tensor_meta"]
            count = check_tensor(tensor, name, archive.file)
            if count and _span(tensor) * item_bytes(tensor) > sizes.get(place, 0):
                raise ModelRefused(
                    f"{archive.file}: {name!r} with {count:,} values does not lie in {place}"
                    f" ({sizes.get(place, 0):,} bytes); the file is damaged."
                )
            parameters += count * bool(payload["is_param"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelRefused(f"{archive.file}: {config} is damaged: {error!r}.") from error
    return parameters


def _span(tensor: Facts) -> int:
    """How many values lie between the first of the file and its last one."""
    sizes, strides = ([each["as_int"] for each in tensor[key]] for key in ("sizes", "strides"))
    offset = tensor["storage_offset"]["as_int"]
    if len(sizes) != len(strides) or min([*strides, offset]) < 0:
        raise TypeError("strides and offset must be as many as sizes, from 0")
    return int(
        offset + 1 + sum((size - 1) * step for size, step in zip(sizes, strides, strict=True))
    )


def _pickled(file: str, place: str) -> ModelRefused:
    return ModelRefused(
        f"{file}: {place[:100]} is a pickle, which runs code when it is opened, and is never opened"
        " here; export the model with plain tensors as its weights and without custom objects.",
        code="pickle",
    )
