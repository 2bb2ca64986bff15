"""Looks through the graph of an exported program before torch turns it into code.

torch builds Python source from the names in it, looks targets up by getattr and evaluates its
sizes: so every text in the file is judged here, and what torch does not need is left out.
Format: torch/_export/serde/schema.py
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml.formats.expressions import is_guard, is_size, symbol_of
from ml.formats.refusal import ModelRefused

MAX_TENSOR_BYTES = 2 * 2**30
MAX_DEPTH = 60
MAX_TEXT = 1_000
NAME = re.compile(r"[\w.]{0,300}", re.ASCII)
TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.(sym_(float|int|ite|max|min|not|sqrt|sum)|_sym_sqrt)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|not_|or_|pow|sub|truediv)"
    r"|math\.(ceil|floor|trunc)",
    re.ASCII,
)
FORBIDDEN = re.compile(r"torch\.ops\.aten\.(from_file|save|load|data_ptr|record_stream)\b")
# The schema's number of a type → what it is called here, and bytes.
DTYPES: Mapping[int, tuple[str, int]] = {
    1: ("uint8", 1), 2: ("int8", 1), 3: ("int16", 2), 4: ("int32", 4), 5: ("int64", 8),
    6: ("float16", 2), 7: ("float32", 4), 8: ("float64", 8), 9: ("complex32", 4),
    10: ("complex64", 8), 11: ("complex128", 16), 12: ("bool", 1), 13: ("bfloat16", 2),
    28: ("uint16", 2), 29: ("float8_e4m3fn", 1), 30: ("float8_e5m2", 1),
    31: ("float8_e4m3fnuz", 1), 32: ("float8_e5m2fnuz", 1), 33: ("float8_e8m0fnu", 1),
    34: ("uint32", 4), 35: ("uint64", 8),
}  # fmt: skip
SERVED = frozenset({
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64",
})  # fmt: skip
STRIDED = 7
CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")
NON_FINITE = ("Infinity", "-Infinity", "NaN")

Facts = dict[str, Any]
Size = int | str | None


@dataclass(frozen=True, kw_only=True)
class Program:
    """What an exported program takes and gives, in the order of its flat inputs and outputs."""

    inputs: tuple[Facts, ...]
    """`name`, `dtype`, `shape`; a size that is free has a name, one that is computed is None."""
    outputs: tuple[Facts, ...]
    most_rows: int | None
    """Of the first size, where it is free and has a limit."""
    torch_version: str


def check_graph(program: Facts, file: str) -> Program:
    """Raises ModelRefused. Takes out of `program` what running it does not need: where its code
    came from, and how its parts called each other."""
    try:
        return _check(program, file)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelRefused(
            f"{file} does not hold a program as torch.export.save writes it"
            f" ({type(error).__name__}: {str(error)[:100]}); it is damaged."
        ) from error


def _check(program: Facts, file: str) -> Program:
    module = program["graph_module"]
    module["module_call_graph"] = [each for each in module["module_call_graph"] if not each["fqn"]]
    module["metadata"] = {}
    module["treespec_namedtuple_fields"] = {}
    (root,) = module["module_call_graph"]
    call = root["signature"]
    takes, gives = (_read_tree(call[each], file) for each in ("in_spec", "out_spec"))
    for guard in program.get("guards_code", []):
        if not is_guard(guard):
            raise _not_plain(file, "the guard", guard)
    texts = {**program, "guards_code": [], "torch_version": ""}
    for key, text, place in _texts(texts):
        _judge_text(key, text, place, file)
    graph = module["graph"]
    for name, tensor in graph["tensor_values"].items():
        check_tensor(tensor, name, file)
    return Program(
        inputs=tuple(_inputs(module, takes, file)),
        outputs=tuple(_outputs(module, gives, file)),
        most_rows=_most_rows(program, file),
        torch_version=str(program.get("torch_version", ""))[:40],
    )


# --- Every text in it ---------------------------------------------------------------------


def _texts(value: Any) -> Iterator[tuple[str, str, str]]:
    """Every key and every text: (key it stands under, text, "key" or "value"); without recursion
    of our own. Clears the metadata of operators on the way."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        key, found, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(found, dict):
            if "target" in found and "metadata" in found:
                found["metadata"] = {}
            yield from ((key, name, "key") for name in found)
            waiting += [(name, each, depth + 1) for name, each in found.items()]
        elif isinstance(found, list):
            waiting += [(key, each, depth + 1) for each in found]
        elif isinstance(found, str):
            yield key, found, "value"


def _judge_text(key: str, text: str, place: str, file: str) -> None:
    if place == "key":
        is_good = bool(NAME.fullmatch(text)) and text not in ("as_custom_obj", "custom_obj")
    elif key in ("target", "as_operator"):
        _check_target(text, file)
        is_good = True
    elif key == "expr_str":
        is_good = is_size(text)
    elif key in ("in_spec", "out_spec"):
        is_good = True  # judged by _read_tree
    elif key in ("as_string", "as_strings"):
        is_good = len(text) <= MAX_TEXT
    else:
        is_good = bool(NAME.fullmatch(text)) or text in NON_FINITE
    if not is_good:
        raise _not_plain(file, f"under {key[:40] or 'its top'!r} the {place}", text)


def _check_target(target: str, file: str) -> None:
    if not TARGET.fullmatch(target) or FORBIDDEN.match(target):
        raise ModelRefused(
            f"{file} calls {target[:100]!r}, which is not one of PyTorch's own operators on"
            " tensors; export the model without custom operators, or as ONNX.",
            code="unsafe_operator",
        )


def _not_plain(file: str, what: str, text: str) -> ModelRefused:
    return ModelRefused(
        f"{file}: {what} {text[:100]!r} is more than a name or arithmetic on sizes, and torch would"
        " run it as code; export the model again with torch.export.",
        code="unsafe_name",
    )


# --- Tensors ------------------------------------------------------------------------------


def check_tensor(tensor: Facts, name: str, file: str) -> int:
    """How many values a tensor that is described so has at least; raises ModelRefused."""
    dtype, item = DTYPES.get(tensor["dtype"], ("", 0))
    if not dtype or tensor["layout"] != STRIDED:
        raise ModelRefused(f"{file}: {name!r} is sparse or of an unknown type; make it dense.")
    if tensor["device"]["type"] != "cpu":
        raise ModelRefused(
            f"{file} was exported on {str(tensor['device']['type'])[:20]!r}; move the model to the"
            " CPU and export it there (it may still be loaded on a GPU)."
        )
    sizes = [size for size in map(_size, tensor["sizes"]) if isinstance(size, int)]
    count = math.prod(sizes)
    if min(sizes, default=0) < 0 or count * item > MAX_TENSOR_BYTES:
        raise ModelRefused(
            f"{file}: {name!r} has the shape {sizes}, {count:,} values, more than"
            f" {MAX_TENSOR_BYTES:,} bytes; make it smaller.",
            code="too_large",
        )
    return count


def item_bytes(tensor: Facts) -> int:
    return DTYPES[tensor["dtype"]][1]


def _size(size: Facts) -> Size:
    if "as_expr" in size:
        return symbol_of(size["as_expr"]["expr_str"])
    value = size["as_int"]
    if type(value) is not int:
        raise TypeError(f"a size is {value!r}")
    return value


# --- What it takes and gives --------------------------------------------------------------


def _inputs(module: Facts, tree: Facts, file: str) -> Iterator[Facts]:
    values = module["graph"]["tensor_values"]
    count = 0
    for spec in module["signature"]["input_specs"]:
        count += "user_input" in spec or "constant_input" in spec
        if "user_input" not in spec:
            continue
        if "as_tensor" not in spec["user_input"]["arg"]:
            raise ModelRefused(f"{file} has an input that is no tensor; make it a constant.")
        name = spec["user_input"]["arg"]["as_tensor"]["name"]
        yield _describe(name, values[name], SERVED, file)
    if count != len(_leaves(tree)):
        raise ValueError("its inputs do not fit how it is called")


def _outputs(module: Facts, tree: Facts, file: str) -> Iterator[Facts]:
    """Named by the keys of a dict that the model returns; else `output`, or `output_0` on."""
    values = module["graph"]["tensor_values"]
    specs = []
    for spec in module["signature"]["output_specs"]:
        if "user_output" not in spec:
            raise ModelRefused(
                f"{file} changes its inputs or its own weights while it runs"
                f" ({', '.join(spec)[:40]}); call model.eval() before exporting it."
            )
        specs.append(spec["user_output"])
    names = _leaves(tree)
    if len(names) != len(specs) or not names:
        raise ValueError("its outputs do not fit what it returns")
    for name, spec in zip(names, specs, strict=True):
        if "as_tensor" not in spec["arg"]:
            raise ModelRefused(f"{file} returns something that is no tensor; return tensors only.")
        tensor = values[spec["arg"]["as_tensor"]["name"]]
        yield _describe(name, tensor, SERVED | {"bfloat16"}, file)


def _describe(name: str, tensor: Facts, served: frozenset[str], file: str) -> Facts:
    dtype = DTYPES[tensor["dtype"]][0]
    if dtype not in served:
        raise ModelRefused(f"{file}: {name!r} is {dtype}, which cannot be sent; use float32.")
    dtype = "float32" if dtype == "bfloat16" else dtype  # what numpy lacks, widened
    return {"name": name, "dtype": dtype, "shape": [_size(size) for size in tensor["sizes"]]}


def _most_rows(program: Facts, file: str) -> int | None:
    module = program["graph_module"]
    limits = []
    for spec in module["signature"]["input_specs"]:
        if "user_input" in spec:
            name = spec["user_input"]["arg"]["as_tensor"]["name"]
            first = module["graph"]["tensor_values"][name]["sizes"][:1]
            symbols = [_size(size) for size in first]
            limits += [program["range_constraints"].get(symbol) for symbol in symbols]
    known = [limit["max_val"] for limit in limits if limit and limit["max_val"] is not None]
    if not all(type(limit) is int and limit > 0 for limit in known):
        raise ModelRefused(f"{file} takes no rows: its first size may be at most {min(known)}.")
    return min(known, default=None)


# --- Trees: how inputs and outputs are nested ------------------------------------------------


def _read_tree(text: str, file: str) -> Facts:
    """A nesting of tuples, lists and dicts with plain keys; others name classes to import."""
    _, tree = json.loads(text)
    waiting, depth = [tree], 0
    while waiting:
        node = waiting.pop()
        depth += 1
        kind, context = node["type"], node["context"]
        is_leaf = kind is None and context is None and not node["children_spec"]
        if not is_leaf and (kind not in CONTAINERS or not _is_plain(context)):
            raise ModelRefused(
                f"{file} takes or returns a {str(kind)[:100]}; let its forward take tensors and"
                " return a tensor, a tuple, a list or a dict of tensors."
            )
        if depth > MAX_TEXT:
            raise ValueError("it takes or returns too much")
        waiting += node["children_spec"]
    found: Facts = tree
    return found


def _is_plain(context: Any) -> bool:
    if context in (None, "null"):
        return True
    keys = json.loads(context)
    return isinstance(keys, list) and all(
        isinstance(key, str) and NAME.fullmatch(key) and key for key in keys
    )


def _leaves(tree: Facts) -> list[str]:
    """A name for each tensor, in order."""
    if tree["type"] == "builtins.dict" and all(
        child["type"] is None for child in tree["children_spec"]
    ):
        return list(json.loads(tree["context"]))
    count, waiting = 0, [tree]
    while waiting:
        node = waiting.pop()
        count += node["type"] is None
        waiting += node["children_spec"]
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]
