"""Makes a model folder of what somebody brought: an archive, a file, or the files of a folder.

Runs in a locked child (python -P -m ml.run take_model). What is accepted is listed; everything
else is refused with what to do instead. The folder it leaves holds nothing that was not checked.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ml.formats.huggingface import read_json
from ml.formats.refusal import ModelRefused, check_weights
from ml.formats.sniff import Kind, sniff

MODEL = "model"
MAX_FILES = 10_000
MAX_NAME_BYTES = 255  # NAME_MAX of Linux's file systems
NAME = re.compile(r"[A-Za-z0-9_][\w .+-]{0,199}", re.ASCII)
REFUSED: Mapping[Kind, str] = {
    "pickle": "is a pickle, which runs code when it is opened, and is never opened here; save the"
    " weights as safetensors (safetensors.torch.save_file) or the model as ONNX",
    "torchscript": "is TorchScript, which is a program; export the model with torch.export.save or"
    " as ONNX, or ask an administrator to set ALLOW_TORCHSCRIPT=1",
    "hdf5": "is an HDF5 file; save the weights as safetensors",
    "array": "is an array and no model; save the weights as safetensors",
    "broken_zip": "begins as a ZIP archive and has no end: it was cut off; send it again",
    "zip": "is an archive inside an archive; pack the files themselves",
    "tar": "is an archive inside an archive; pack the files themselves",
}
TEXT_OUTPUT: Mapping[str, list[dict[str, Any]]] = {
    "classify": [{"name": "scores", "dtype": "float32", "shape": [None, None]}],
    "embed": [{"name": "embedding", "dtype": "float32", "shape": [None, None]}],
}
TEXT = {"name": "text", "dtype": "string", "shape": [None]}

Facts = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the server allows, and whether this process is locked in."""

    torchscript: bool = False
    unlocked: bool = False
    is_locked: bool = False

    @property
    def may_open_foreign(self) -> bool:
        return self.is_locked or self.unlocked


def take_model(folder: Path, files: Sequence[Mapping[str, str]], trust: Trust) -> Facts:
    """Fill `folder/model` from files `{stored, name}` in the folder and tell what it is:
    `framework`, `task`, `signature`, `card` and `facts`. Raises ModelRefused or DataError."""
    target = folder / MODEL
    target.mkdir()
    _place(folder, files, target, trust)
    paths = [path for path in sorted(target.rglob("*")) if path.is_file()]
    if not paths:
        raise ModelRefused("There are no files in it; a model is a file or a folder with files.")
    kinds = {path: sniff(path) for path in paths}
    for path, kind in kinds.items():
        if kind in REFUSED and not (kind == "torchscript" and trust.torchscript):
            raise _refused(path.relative_to(target).as_posix(), kind)
        if path.suffix == ".safetensors":
            check_weights(path)
    rewritten = _rewrite_saved(target, kinds)
    found = _judge(target, kinds, trust)
    return {**found, "facts": found["facts"] | rewritten, "card": _card(target)}


# --- Bringing the files together ----------------------------------------------------------


def _place(folder: Path, files: Sequence[Mapping[str, str]], target: Path, trust: Trust) -> None:
    for file in files:
        _check_name(file["name"])
    if len({file["name"] for file in files}) < len(files):
        raise ModelRefused("Two of the files have the same name.")
    stored = folder / files[0]["stored"]
    if len(files) == 1 and sniff(stored) in ("zip", "tar"):
        from ml.data.archive import unpack  # numpy comes with it

        unpack(stored, target, max_members=MAX_FILES)
        _lift(target)
        _drop_hidden(target)
        return
    for file in files:
        (folder / file["stored"]).rename(target / file["name"])


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ModelRefused(
            f"The file name {name[:100]!r} is not plain; use letters, digits, '.', '_' and '-'.",
            code="unsafe_name",
        )


def _lift(target: Path) -> None:
    """An archive of one folder: what lies inside is meant."""
    while [path.is_dir() for path in target.iterdir()] == [True]:
        (inner,) = target.iterdir()
        aside = inner.rename(target.with_name("lifted"))
        target.rmdir()
        aside.rename(target)


def _drop_hidden(target: Path) -> None:
    """What systems leave in archives: .DS_Store, .gitattributes, __MACOSX."""
    for path in [path for path in target.rglob("*") if path.is_file()]:
        parts = path.relative_to(target).parts
        if any(part.startswith((".", "__MACOSX")) for part in parts):
            path.unlink()


def _rewrite_saved(target: Path, kinds: dict[Path, Kind]) -> Facts:
    """Weights of torch.save become safetensors, in the folder and in `kinds`. Where other weights
    lie beside, as in many folders of the Hub, they are only looked through, and left out later."""
    saved = [path for path, kind in kinds.items() if kind == "saved"]
    if not saved:
        return {}
    from ml.formats.state_dict import convert_state_dict, look_through  # numpy comes with it

    complete = {path.parent for path, kind in kinds.items() if _has_weights(path, kind)}
    needed = [path for path in saved if path.parent not in complete]
    belong_to_config = len(needed) == 1 and (target / "config.json").is_file()
    rewritten: dict[str, str] = {}
    for path in saved:
        if path not in needed:
            look_through(path)
            continue
        stem = "model" if belong_to_config else path.stem.replace("pytorch_model", "model")
        weights = path.with_name(f"{stem}.safetensors")
        if len(os.fsencode(weights.name)) > MAX_NAME_BYTES:
            raise ModelRefused(f"The file name {path.name[:100]!r} is too long; choose a shorter.")
        if weights.exists():
            raise ModelRefused(
                f"{path.name} and another file would both become {weights.name}; bring one of them."
            )
        convert_state_dict(path, weights)
        path.unlink()
        del kinds[path]
        kinds[weights] = "safetensors"
        rewritten[path.name] = weights.name
    if needed and (index := target / "pytorch_model.bin.index.json") in kinds:
        _rewrite_index(index, rewritten)
    return {"rewritten": rewritten} if rewritten else {}


def _has_weights(path: Path, kind: Kind) -> bool:
    return kind in ("safetensors", "exported") or path.suffix == ".onnx"


def _rewrite_index(path: Path, rewritten: Mapping[str, str]) -> None:
    content = read_json(path)
    shards = content.get("weight_map")
    if isinstance(shards, dict):
        content["weight_map"] = {
            tensor: rewritten.get(str(shard), shard) for tensor, shard in shards.items()
        }
    path.with_name("model.safetensors.index.json").write_text(json.dumps(content))


# --- What it is ---------------------------------------------------------------------------


def _judge(target: Path, kinds: Mapping[Path, Kind], trust: Trust) -> Facts:
    from ml.formats.network import is_network

    names = {path.relative_to(target).as_posix(): path for path in kinds}
    if any(name.endswith(".onnx") for name in names):
        return _onnx(target, names)
    if is_network(target):
        return _network(target)
    if "config.json" in names or "adapter_config.json" in names:
        return _huggingface(target, trust)
    if "exported" in kinds.values():
        return _exported(target, names, kinds)
    if "torchscript" in kinds.values():
        return _torchscript(kinds, trust)
    if "safetensors" in kinds.values():
        return _bare_weights(target, names, kinds)
    shown = ", ".join(list(names)[:5])
    raise ModelRefused(
        f"{shown} is not a model that can be kept: bring a Hugging Face folder with safetensors"
        " (as ZIP or TAR), an ONNX file, a program of torch.export.save, a safetensors file,"
        " weights of torch.save, or a model folder of this server.",
        code="unknown_format",
    )


def _onnx(target: Path, names: Mapping[str, Path]) -> Facts:
    from ml.formats.onnx_file import check_onnx

    models = [name for name in names if name.endswith(".onnx")]
    if len(models) > 1 or "/" in models[0]:
        raise ModelRefused(f"Bring one ONNX model at a time; this has {', '.join(models[:5])}.")
    others = set(names) - set(models)
    found = check_onnx(names[models[0]], others)
    task = _classical_task(target) if {"config.json", "preprocess.json"} <= others else None
    kept = {"README.md", *(("config.json", "preprocess.json", "model.py") if task else ())}
    left_out = sorted(others - set(found["external"]) - kept)
    for name in left_out:
        names[name].unlink()
    signature = {"inputs": found.pop("inputs"), "outputs": found.pop("outputs")}
    return _answer("onnx", task or "predict", signature, {**found, "left_out": left_out})


def _classical_task(target: Path) -> str | None:
    """Of a folder of this server's recipe `features`, whose code is replaced by our own."""
    config, preprocess = (read_json(target / name) for name in ("config.json", "preprocess.json"))
    if config.get("recipe") != "features" or not preprocess:
        return None
    code = find_spec("ml.features.model")
    assert code is not None
    assert code.origin is not None
    (target / "model.py").write_bytes(Path(code.origin).read_bytes())
    return str(config.get("task", "predict"))


def _network(target: Path) -> Facts:
    from ml.formats.network import check_network

    found = check_network(target)
    return _answer("pytorch", found["task"], None, found)


def _huggingface(target: Path, trust: Trust) -> Facts:
    from ml.formats.huggingface import check_huggingface

    _require_lock(trust, "A foreign Hugging Face folder")
    found = check_huggingface(target)
    outputs = TEXT_OUTPUT.get(found["task"], [TEXT | {"name": "generated"}])
    return _answer("transformers", found["task"], {"inputs": [TEXT], "outputs": outputs}, found)


def _torchscript(kinds: Mapping[Path, Kind], trust: Trust) -> Facts:
    from ml.formats.torchscript import check_torchscript

    _require_lock(trust, "TorchScript")
    if len(kinds) > 1:
        raise ModelRefused("Bring the TorchScript file alone.")
    return _answer("torchscript", "predict", None, check_torchscript(next(iter(kinds))))


def _exported(target: Path, names: Mapping[str, Path], kinds: Mapping[Path, Kind]) -> Facts:
    from ml.formats.exported import NAME as EXPORTED_FILE
    from ml.formats.exported import take_exported

    programs = [name for name, path in names.items() if kinds[path] == "exported"]
    if len(programs) > 1:
        raise ModelRefused(f"Bring one program at a time; this has {', '.join(programs[:5])}.")
    (brought,) = programs
    left_out = [name for name in names if name not in (brought, "README.md")]
    aside = names[brought].rename(target.with_name("brought.pt2"))
    program, parameters = take_exported(aside, target / EXPORTED_FILE)
    aside.unlink()
    for name in left_out:
        names[name].unlink()
    signature = {"inputs": list(program.inputs), "outputs": list(program.outputs)}
    facts = {
        "torch_version": program.torch_version,
        "parameter_count": parameters,
        "most_rows": program.most_rows,
        "left_out": left_out,
    }
    return _answer("torch.export", "predict", signature, facts)


def _bare_weights(target: Path, names: Mapping[str, Path], kinds: Mapping[Path, Kind]) -> Facts:
    left_out = [
        name for name, path in names.items() if kinds[path] != "safetensors" and name != "README.md"
    ]
    for name in left_out:
        names[name].unlink()
    headers = [check_weights(path) for path, kind in kinds.items() if kind == "safetensors"]
    total = sum(header.parameter_count for header in headers)
    return _answer("safetensors", "weights", None, {"parameter_count": total, "left_out": left_out})


def _answer(framework: str, task: str, signature: Facts | None, facts: Facts) -> Facts:
    known = {k: v for k, v in facts.items() if k != "task" and v not in (None, [], "")}
    return {"framework": framework, "task": task, "signature": signature, "facts": known}


def _require_lock(trust: Trust, what: str) -> None:
    if not trust.may_open_foreign:
        raise ModelRefused(
            f"{what} is only opened in a locked process, which this server's kernel cannot make"
            " (no Landlock); an administrator may set ALLOW_UNSANDBOXED_MODELS=1.",
            code="no_sandbox",
        )


def _refused(name: str, kind: Kind) -> ModelRefused:
    return ModelRefused(f"{name} {REFUSED[kind]}.", code=kind)


def _card(target: Path) -> str:
    """What the folder's README says, without the machine-readable part before it."""
    path = target / "README.md"
    if not path.is_file():
        return ""
    text = path.read_text("utf-8", errors="replace")[:100_000]
    if text.startswith("---\n") and "\n---\n" in text:
        text = text.split("\n---\n", 1)[1]
    return text.replace("\0", "").strip()
