"""A classical model with its preprocessing: load and predict.

Complete in itself: it needs numpy and onnxruntime, and a copy of this file lies in every
exported model folder, so `predict(folder, rows)` works without the project it came from.
Code is only parsed, never run.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TOPICS = {
    "sql": r"\b(select\b.+\bfrom|insert\s+into|update\b.+\bset|delete\s+from|where\b)",
    "html": r"</?[a-z][a-z0-9]*[\s>]",
    "query": r"^\(?[&|]?\(|^\.?//|\b(ou|dc|uid|cn)=",
    "url": r"^https?:",
    "path": r"^[~.]?/|/$|^/|\.\w{2,4}$",
    "shell": r"^[a-z]+\s+-{0,2}\w|\s-{1,2}[a-z]+\b",
}
WORD = re.compile(r"[A-Za-z]+|\d+|[^\w\s]")
PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def load(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """The ONNX session, ready to answer, and the preprocessing."""
    folder = Path(folder)
    preprocess: dict[str, Any] = json.loads((folder / "preprocess.json").read_text("utf-8"))
    return open_graph((folder / "model.onnx").read_bytes()), preprocess


def open_graph(graph: bytes) -> Any:
    """The ONNX session of a serialised graph, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # small work gains nothing by threads, which wait by spinning
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def predict(folder: str | Path, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """One answer a row: a dict with label, probability and probabilities, or a number.

    A row is a dict with the columns the model was trained on; ValueError names what lacks.
    """
    session, preprocess = load(folder)
    if not rows:
        return []
    return decode(preprocess, session.run(None, encode(preprocess, rows)))


def encode(
    preprocess: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """What the ONNX graph takes: `features` (N, vocabulary), or each column of a table (N, 1)."""
    columns = {name: _column(rows, name) for name in preprocess["columns"]}
    if preprocess["kind"] == "table":
        kinds = preprocess["columns"]
        return {name: as_input(name, columns[name], kinds[name]) for name in kinds}
    (texts,) = columns.values()
    return {"features": encode_texts(preprocess, [text or "" for text in texts])}


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    for place, row in enumerate(rows, 1):
        if name not in row:  # an empty value is said as None; a forgotten column is a mistake
            raise ValueError(f"row {place} lacks the column {name!r}")
    return [row[name] for row in rows]


def as_input(name: str, values: Sequence[Any] | np.ndarray, kind: str) -> np.ndarray:
    """A column of a table: float32 with NaN for what is empty, or text with "" for it."""
    if kind == "category":
        texts = ["" if value is None else str(value) for value in values]
        return np.array(texts, dtype=object)[:, np.newaxis]
    try:
        numbers = np.array(values, dtype=np.float32)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} must hold numbers: {error}") from error
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers[:, np.newaxis]


def decode(preprocess: Mapping[str, Any], outputs: Sequence[np.ndarray]) -> list[Any]:
    """Answers from the outputs of the graph: (labels, probabilities), or numbers (N, 1)."""
    classes = preprocess["classes"]
    if classes is None:
        return [float(number) for number in np.ravel(outputs[0])]
    answers = []
    for row in outputs[1].astype(np.float64):
        best = int(row.argmax())
        shares = {str(label): float(share) for label, share in zip(classes, row, strict=True)}
        answer = {"label": classes[best], "probability": float(row[best]), "probabilities": shares}
        answers.append(answer)
    return answers


# ── from text and code to numbers ────────────────────────────────────────────────────


def encode_texts(preprocess: Mapping[str, Any], texts: Sequence[str]) -> np.ndarray:
    """The weight of each feature of the vocabulary that a text has, float32 (N, vocabulary).

    Each row is scaled to length 1.
    """
    places = {name: place for place, name in enumerate(preprocess["vocabulary"])}
    weights = np.asarray(preprocess["weights"], dtype=np.float32)
    matrix = np.zeros((len(texts), len(places)), np.float32)
    for row, text in enumerate(texts):
        found = [places[name] for name in features_of(preprocess["kind"], text) if name in places]
        matrix[row, found] = weights[found]
    lengths = np.sqrt((matrix**2).sum(axis=1, keepdims=True))
    scaled: np.ndarray = matrix / np.where(lengths > 0, lengths, 1)
    return scaled


def features_of(kind: str, text: str) -> set[str]:
    return code_features(text) if kind == "code" else text_features(text)


def text_features(text: str) -> set[str]:
    """Words, pairs of words, and runs of three to five characters inside words."""
    found = word_features(text)
    for word in {word.lower() for word in WORD.findall(text)}:
        framed = f" {word} "
        for size in (3, 4, 5):
            places = range(len(framed) - size + 1)
            found |= {f"part:{framed[place : place + size]}" for place in places}
    return found


def word_features(text: str) -> set[str]:
    """Words, numbers and signs, and pairs of them."""
    words = [word.lower() for word in WORD.findall(text)]
    pairs = {f"words:{one} {two}" for one, two in itertools.pairwise(words)}
    return {f"word:{word}" for word in words} | pairs


def code_features(source: str) -> set[str]:
    """Words of Python code and features of its syntax tree; words alone where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return word_features(source)
    return word_features(source) | set(Reader(tree).features())


class Reader:
    """Reads one tree. It follows a name to what was last assigned to it, one step far."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = list(ast.walk(tree))
        self.values: dict[str, ast.expr] = {}
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self.values[target.id] = node.value

    def features(self) -> Iterator[str]:
        for node in self.nodes:
            yield f"node:{type(node).__name__}"
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None)
                yield from (f"import:{module or alias.name}" for alias in node.names)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from (f"decorator:{dotted(each)}" for each in node.decorator_list)
            elif isinstance(node, ast.Compare):
                yield from self._compare(node)
            elif isinstance(node, ast.Return) and node.value is not None:
                yield f"return:{self.kind(node.value)}"
            elif isinstance(node, ast.Assign):
                yield from self._assign(node)
            elif isinstance(node, ast.Constant):
                yield f"constant:{constant(node.value)}"
            elif isinstance(node, ast.expr) and (kind := string_kind(node)):
                yield f"string:{kind}"
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                yield from (f"name:{part.lower()}" for part in PART.findall(name))

    def _call(self, node: ast.Call) -> Iterator[str]:
        name = dotted(node.func)
        last = name.rpartition(".")[2]
        yield f"call:{name}"
        yield f"call:.{last}/{len(node.args)}"
        for place, argument in enumerate(node.args[:3]):
            yield f"argument:{last}:{place}:{self.kind(argument)}"
        if any(self.kind(argument).startswith(DYNAMIC) for argument in node.args):
            yield f"dynamic:{last}"
        for keyword in node.keywords:
            kind = self.kind(keyword.value)
            yield f"keyword:{keyword.arg}={kind}"
            yield f"keyword:{last}:{keyword.arg}={kind}"

    def _compare(self, node: ast.Compare) -> Iterator[str]:
        words = {word for each in (node.left, *node.comparators) for word in names_in(each)}
        for operator in node.ops:
            yield f"compare:{type(operator).__name__}"
            yield from (f"compare:{type(operator).__name__}:{word}" for word in words)

    def _assign(self, node: ast.Assign) -> Iterator[str]:
        for target in node.targets:
            words = names_in(target)
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                words = [*words, str(target.slice.value)]
            yield from (f"assign:{word}={self.kind(node.value)}" for word in words)

    def kind(self, node: ast.expr) -> str:
        """What an expression is, in a word or two; a name is what was assigned to it."""
        if isinstance(node, ast.Name) and node.id in self.values:
            node = self.values[node.id]
        if kind := string_kind(node):
            return kind
        if isinstance(node, ast.Constant):
            return constant(node.value)
        if isinstance(node, ast.Call):
            return f"{dotted(node.func).rpartition('.')[2]}()"
        if isinstance(node, ast.Attribute):
            return dotted(node)
        return type(node).__name__


DYNAMIC = ("joined", "added", "filled", "formatted")


def string_kind(node: ast.expr) -> str | None:
    """How a text is put together, and what it seems to be about: `joined:sql`."""
    if isinstance(node, ast.JoinedStr):
        how = "joined"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        how = "added" if isinstance(node.op, ast.Add) else "filled"
    elif isinstance(node, ast.Call) and dotted(node.func).endswith(".format"):
        how = "formatted"
    else:
        return None
    parts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    texts = [part for part in parts if isinstance(part, str)]
    return f"{how}:{topic(' '.join(texts))}" if texts else None


def topic(text: str) -> str:
    lowered = text.strip().lower()[:500]
    return next((name for name, how in TOPICS.items() if re.search(how, lowered, re.S)), "text")


def constant(value: Any) -> str:
    """A constant in a word: small facts as they are, texts by what they are about."""
    if isinstance(value, str):
        return value.lower() if re.fullmatch(r"[\w/.*-]{1,12}", value) else f"text:{topic(value)}"
    if isinstance(value, bool | None) or (isinstance(value, int) and 0 <= value < 4096):
        return str(value)
    return type(value).__name__


def dotted(node: ast.expr) -> str:
    """`os.path.join`; what is not a name stands as its kind."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Call):
        return ".".join([dotted(node.func), *reversed(parts)])
    parts.append(node.id if isinstance(node, ast.Name) else type(node).__name__)
    return ".".join(reversed(parts))


def names_in(node: ast.expr) -> list[str]:
    found = []
    for each in ast.walk(node):
        name = each.id if isinstance(each, ast.Name) else getattr(each, "attr", None)
        if isinstance(name, str):
            found += [part.lower() for part in PART.findall(name)]
    return found
