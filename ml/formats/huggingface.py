"""Looks through a Hugging Face folder: keeps what loading needs, takes out what would run code.

Weights only as safetensors. Names of other repositories, of code and of files outside are removed
or refused, sizes in the configuration are compared with the weights that are there.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml.formats.header import Header
from ml.formats.refusal import ModelRefused, check_weights
from ml.formats.tokenizer import check_tokenizer

MAX_JSON_BYTES = 16 * 2**20
MAX_INTEGER = 2**31
MAX_LAYERS = 1_000
LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "n_layers")
WIDTHS = ("d_model", "hidden_size", "n_embd", "dim")
KEPT = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|preprocess|adapter_config)\.json|vocab\.txt|merges\.txt|chat_template\.jinja"
    r"|README\.md|LICENSE(\.txt|\.md)?|[\w.-]+\.safetensors(\.index\.json)?"
)
# Each names code or another place that a library would fetch and follow.
REMOVED_KEYS = {
    "auto_map",
    "custom_pipelines",
    "trust_remote_code",
    "attn_implementation",
    "transformers_weights",
    "use_kernels",
}
BASE = re.compile(r"[\w.-]+(/[\w.-]+|@\d+)?")
"""`name` or `name@2` of this registry, `owner/name` of the Hub; never a path."""
TASKS = {
    "ForConditionalGeneration": "text2text",
    "MarianMTModel": "text2text",
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForSequenceClassification": "classify",
}

Facts = dict[str, Any]


def check_huggingface(folder: Path) -> Facts:
    """`architecture`, `model_type`, `task`, `parameter_count`, `classes`, `left_out`, `removed`.

    Removes files and keys that are not needed; raises ModelRefused where that is not enough.
    """
    left_out = _leave_out(folder)
    removed = [key for path in sorted(folder.glob("*config.json")) for key in _clean(path)]
    headers = _read_weights(folder)
    check_tokenizer(folder)
    is_adapter = (folder / "adapter_config.json").is_file()
    facts = _adapter_facts(folder) if is_adapter else _model_facts(folder, headers)
    parameters = sum(header.parameter_count for header in headers.values())
    return {**facts, "parameter_count": parameters, "left_out": left_out, "removed": removed}


def _leave_out(folder: Path) -> list[str]:
    """Remove the files that loading does not need; code is among them, for it is never run."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    needless = [path for path in files if path.parent != folder or not KEPT.fullmatch(path.name)]
    for path in needless:
        path.unlink()
    return [path.relative_to(folder).as_posix() for path in needless]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size; ModelRefused where the file is none."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ModelRefused(
            f"{path.name} has {path.stat().st_size:,} bytes; at most {MAX_JSON_BYTES:,} are read.",
            code="too_large",
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{path.name} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(content, dict):
        raise ModelRefused(f"{path.name} must hold a JSON object.")
    return content


def _clean(path: Path) -> list[str]:
    """Write the file without the keys that name code; returns them."""
    removed: list[str] = []
    cleaned = _without_code(read_json(path), removed)
    path.write_text(json.dumps(cleaned, indent=2, ensure_ascii=False))
    return [f"{path.name}: {key}" for key in removed]


def _without_code(value: Any, removed: list[str]) -> Any:
    if isinstance(value, list):
        return [_without_code(each, removed) for each in value]
    if not isinstance(value, dict):
        return value
    dangerous = {key for key in value if key.startswith("_") or key in REMOVED_KEYS}
    removed += sorted(dangerous)
    return {
        key: _without_code(each, removed) for key, each in value.items() if key not in dangerous
    }


# --- Weights ------------------------------------------------------------------------------


def _read_weights(folder: Path) -> dict[str, Header]:
    headers = {path.name: check_weights(path) for path in sorted(folder.glob("*.safetensors"))}
    if not headers:
        raise ModelRefused(
            "The folder has no weights as safetensors; save them with"
            " model.save_pretrained(folder, safe_serialization=True)."
        )
    for path in folder.glob("*.safetensors.index.json"):
        _check_index(path, headers)
    return headers


def _check_index(path: Path, headers: Mapping[str, Header]) -> None:
    """The index says which shard holds which tensor: only shards of this folder, and truly."""
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelRefused(f"{path.name} has no weight_map.")
    names = {file: {tensor.name for tensor in header.tensors} for file, header in headers.items()}
    for tensor, shard in shards.items():
        if not isinstance(shard, str) or shard not in names:
            raise ModelRefused(
                f"{path.name} takes {tensor[:100]!r} from {str(shard)[:100]!r}, which is not a file"
                " of this folder; send all shards.",
                code="unsafe_name",
            )
        if tensor not in names[shard]:
            raise ModelRefused(f"{path.name}: {shard} does not hold {tensor[:100]!r}.")


# --- Configuration ------------------------------------------------------------------------


def _model_facts(folder: Path, headers: Mapping[str, Header]) -> Facts:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelRefused("The folder has no config.json; save it with model.save_pretrained().")
    config = read_json(path)
    architecture = _architecture(config)
    _check_numbers(config, headers)
    if "quantization_config" in config:
        raise ModelRefused(
            "config.json says that the weights are quantised, which needs libraries that are not"
            " here; upload the weights as they were before."
        )
    labels = config.get("id2label")
    return {
        "architecture": architecture,
        "model_type": str(config.get("model_type", "")),
        "task": task_of(architecture),
        "classes": list(labels.values()) if isinstance(labels, dict) else None,
    }


def task_of(architecture: str) -> str:
    return next((task for ending, task in TASKS.items() if architecture.endswith(ending)), "embed")


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str) and config.get("model_type"):
        return names[0]
    raise ModelRefused(
        "config.json must name its architectures and model_type; save it with"
        " model.save_pretrained()."
    )


def _check_numbers(config: Mapping[str, Any], headers: Mapping[str, Header]) -> None:
    """A small file may ask for terabytes of empty weights: what it announces must be there."""
    for name, value in config.items():
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise ModelRefused(f"config.json: {name} is {value}, at most {MAX_INTEGER} is allowed.")
    for name in LAYERS:
        if isinstance(config.get(name), int) and config[name] > MAX_LAYERS:
            raise ModelRefused(f"config.json: {name} is {config[name]}, more than {MAX_LAYERS}.")
    width = next((config[name] for name in WIDTHS if isinstance(config.get(name), int)), 0)
    words = config.get("vocab_size")
    held = sum(header.parameter_count for header in headers.values())
    if isinstance(words, int) and words * width > held:
        raise ModelRefused(
            f"config.json announces {words:,} words of {width:,} numbers, but the weights hold only"
            f" {held:,} numbers; they belong to another model."
        )


def _adapter_facts(folder: Path) -> Facts:
    config = read_json(folder / "adapter_config.json")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not BASE.fullmatch(base) or ".." in base:
        raise ModelRefused(
            f"adapter_config.json names {str(base)[:100]!r} as its base model; write the name of"
            " a model of this registry or of the Hub, or upload the merged model.",
            code="unsafe_name",
        )
    kinds = {"SEQ_2_SEQ_LM": "text2text", "CAUSAL_LM": "causal", "SEQ_CLS": "classify"}
    return {
        "architecture": f"adapter of {base}",
        "model_type": str(config.get("peft_type", "")).lower(),
        "task": kinds.get(str(config.get("task_type")), "embed"),
        "classes": None,
    }
