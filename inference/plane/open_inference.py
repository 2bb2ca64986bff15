"""POST /v2/models/{name}[/versions/{version}]/infer: the Open Inference Protocol, with Triton's
binary tensor data extension (https://github.com/kserve/open-inference-protocol).

A parameter that is not supported is refused with its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from django.conf import settings

from inference.models import LoadedModel
from inference.open_inference_serializers import InferredSerializer, InferSerializer
from inference.plane import tensors
from inference.plane.bodies import too_large
from inference.plane.routes import Call, Door, Headers, Reply, Route, described
from inference.plane.workers import workers
from inference.services import LoadFailed, NotLoaded
from ml.serve.frames import Header
from mlserver.lib.errors import AppError, Invalid, Malformed, NotFound

PATHS = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")
JSON_LENGTH = b"inference-header-content-length"
BINARY = (b"content-type", b"application/octet-stream")
WINDOWS = {b"gzip": 31, b"deflate": 15}
"""As zlib counts them; deflate is zlib's own format."""
TIMEOUT_SECONDS = 30.0
LONGEST_TIMEOUT_SECONDS = 300.0


class Refused(AppError):
    """This protocol has no 409 and no 422."""

    status: ClassVar[int] = 400


@contextmanager
def protocol_errors() -> Iterator[None]:
    try:
        yield
    except NotLoaded as error:
        raise NotFound(error.detail, code=error.code) from error
    except (Invalid, LoadFailed) as error:
        raise Refused(error.detail, code=error.code, errors=error.errors) from error


@described(
    summary="Predict, by the Open Inference Protocol",
    request=InferSerializer,
    responses=InferredSerializer,
)
class InferView(Door):
    """Tensors as JSON, or as binary data behind it (`Inference-Header-Content-Length`)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its worker is told of it."""

    id: str | None
    tensors: list[dict[str, Any]]
    body: bytes | memoryview
    outputs: list[str] | None
    binary: Mapping[str, bool]
    """Of outputs that were named; of the others `is_binary`."""
    is_binary: bool
    timeout_seconds: float


async def infer(call: Call) -> Reply:
    with protocol_errors():
        name, version = call.parameters["name"], call.parameters.get("version")
        asked = read_request(call.headers, call.body, name)
        loaded = await workers.find(f"{name}@{version}" if version else name)
        facts, body = await workers.ask(
            loaded,
            asked.body,
            timeout_seconds=asked.timeout_seconds,
            outputs=asked.outputs,
            encoding="tensors",
            tensors=asked.tensors,
            **{"return": "tensors"},
        )
        return _compressed(call.headers, write_reply(loaded, asked, facts, body))


# --- The request --------------------------------------------------------------------------


def read_request(headers: Mapping[bytes, bytes], body: bytes, model: str) -> Asked:
    """Raises Malformed, Invalid and TooLarge. `model` is the one of the address."""
    head, rest = _split(headers, _inflate(headers, body))
    asked = _parse(head)
    _refuse_unknown(asked, {"id", "model_name", "inputs", "outputs", "parameters"}, "the request")
    if asked.get("model_name", model) != model:  # KServe's client repeats it
        raise Invalid(f"model_name must be that of the address, {model!r}.")
    parameters = _object(asked, "parameters", "the request")
    _refuse_unknown(parameters, {"binary_data_output", "timeout"}, "parameters")
    described, parts = _read_inputs(asked.get("inputs"), rest)
    outputs, binary = _read_outputs(asked.get("outputs"))
    return Asked(
        id=_text(asked.get("id"), "id"),
        tensors=described,
        body=parts[0] if len(parts) == 1 else b"".join(parts),
        outputs=outputs,
        binary=binary,
        is_binary=parameters.get("binary_data_output") is True,
        timeout_seconds=_timeout(parameters.get("timeout")),
    )


def _inflate(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding == b"identity":
        return body
    if encoding not in WINDOWS:
        told = encoding.decode("latin-1")[:50]
        raise Malformed(f"The content encoding {told!r} is not supported; gzip and deflate are.")
    most = settings.MAX_INFERENCE_SIZE
    inflater = zlib.decompressobj(WINDOWS[encoding])
    try:
        inflated = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise Malformed(f"The body is not valid {encoding.decode()}: {error}.") from error
    if len(inflated) > most:
        raise too_large()
    if not inflater.eof:
        raise Malformed(f"The {encoding.decode()} body ends too early.")
    return inflated


def _split(headers: Mapping[bytes, bytes], body: bytes) -> tuple[bytes | memoryview, memoryview]:
    """JSON, and the binary data behind it."""
    said = headers.get(JSON_LENGTH)
    if said is None:
        return body, memoryview(b"")
    if not (said.isdigit() and len(said) < 20 and int(said) <= len(body)):
        raise Malformed("Inference-Header-Content-Length must be the length of the JSON.")
    view = memoryview(body)
    return view[: int(said)], view[int(said) :]


def _parse(head: bytes | memoryview) -> dict[str, Any]:
    try:
        asked = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is not valid JSON: {error.msg}.") from error
    if not isinstance(asked, dict):
        raise Malformed("The body must be a JSON object.")
    return asked


def _read_inputs(
    inputs: Any, rest: memoryview
) -> tuple[list[dict[str, Any]], list[bytes | memoryview]]:
    if not isinstance(inputs, list) or not inputs:
        raise Invalid("inputs must be a list of tensors.")
    described: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    start = 0
    for entry in inputs:
        name, datatype, shape = _read_tensor(entry)
        size = _binary_size(entry, name)
        if size is None:
            raw: bytes | memoryview = tensors.encode(
                name, datatype, tensors.flatten(name, entry["data"], shape)
            )
        else:
            raw, start = rest[start : start + size], start + size
        described.append(
            {"name": name, "datatype": datatype, "shape": shape, "size_bytes": len(raw)}
        )
        parts.append(raw)
    if start != len(rest):
        raise Invalid(f"{start} bytes of binary data are described, {len(rest)} came.")
    return described, parts


def _read_tensor(entry: Any) -> tuple[str, str, list[int]]:
    if not isinstance(entry, dict):
        raise Invalid("Every input must be an object with name, datatype, shape and data.")
    _refuse_unknown(entry, {"name", "datatype", "shape", "data", "parameters"}, "an input")
    name, datatype, shape = (entry.get(key) for key in ("name", "datatype", "shape"))
    if not (isinstance(name, str) and isinstance(datatype, str)):
        raise Invalid("Every input needs a name and a datatype.")
    if not (isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**32 for n in shape)):
        raise Invalid(f"The input {name[:100]!r} needs a shape: a list of sizes.")
    return name, datatype, shape


def _binary_size(entry: Mapping[str, Any], name: str) -> int | None:
    """None: the data is in the JSON."""
    parameters = _object(entry, "parameters", f"the input {name[:100]!r}")
    _refuse_unknown(parameters, {"binary_data_size"}, f"the input {name[:100]!r}")
    size = parameters.get("binary_data_size")
    if (size is None) != ("data" in entry):
        raise Invalid(f"The input {name[:100]!r} needs either data or binary_data_size.")
    if size is not None and not (type(size) is int and size >= 0):
        raise Invalid(f"binary_data_size of the input {name[:100]!r} must be a whole number.")
    return size


def _read_outputs(outputs: Any) -> tuple[list[str] | None, dict[str, bool]]:
    if outputs is None or outputs == []:
        return None, {}
    if not isinstance(outputs, list):
        raise Invalid("outputs must be a list of objects with a name.")
    binary: dict[str, bool] = {}
    names: list[str] = []
    for entry in outputs:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise Invalid("outputs must be a list of objects with a name.")
        name = entry["name"]
        _refuse_unknown(entry, {"name", "parameters"}, f"the output {name[:100]!r}")
        parameters = _object(entry, "parameters", f"the output {name[:100]!r}")
        _refuse_unknown(parameters, {"binary_data"}, f"the output {name[:100]!r}")
        names.append(name)
        if "binary_data" in parameters:
            binary[name] = parameters["binary_data"] is True
    return names, binary


def _timeout(microseconds: Any) -> float:
    """As Triton counts it; 0 and nothing: the usual."""
    if not microseconds:
        return TIMEOUT_SECONDS
    if type(microseconds) is not int or not 0 < microseconds <= LONGEST_TIMEOUT_SECONDS * 1e6:
        raise Invalid(f"timeout is in microseconds, up to {LONGEST_TIMEOUT_SECONDS * 1e6:.0f}.")
    return microseconds / 1e6


def _object(holder: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    found = holder.get(name)
    if found is not None and not isinstance(found, dict):
        raise Invalid(f"{name} of {where} must be an object.")
    return found or {}


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Invalid(f"{name} must be a string.")
    return value


def _refuse_unknown(found: Mapping[str, Any], known: set[str], where: str) -> None:
    if strange := found.keys() - known:
        raise Invalid(f"{min(strange)[:100]!r} of {where} is not supported.")


# --- The reply ----------------------------------------------------------------------------


def write_reply(loaded: LoadedModel, asked: Asked, facts: Header, body: bytes) -> Reply:
    outputs: list[dict[str, Any]] = []
    parts: list[memoryview] = []
    view, start = memoryview(body), 0
    for tensor in facts["tensors"]:
        name, datatype, size = tensor["name"], tensor["datatype"], tensor["size_bytes"]
        raw, start = view[start : start + size], start + size
        output = {"name": name, "datatype": datatype, "shape": tensor["shape"]}
        if asked.binary.get(name, asked.is_binary):
            output["parameters"] = {"binary_data_size": size}
            parts.append(raw)
        else:
            output["data"] = tensors.decode(name, datatype, raw)
        outputs.append(output)
    version = loaded.version
    answer = {
        "model_name": version.model.name,
        "model_version": str(version.number),
        **({} if asked.id is None else {"id": asked.id}),
        "outputs": outputs,
    }
    head = orjson.dumps(answer)
    if not parts:
        return Reply(head, model=str(loaded))
    headers: Headers = (BINARY, (JSON_LENGTH, str(len(head)).encode()))
    return Reply(b"".join((head, *parts)), headers=headers, model=str(loaded))


def _compressed(headers: Mapping[bytes, bytes], reply: Reply) -> Reply:
    """For those who name one encoding and nothing else: they want it. HTTP libraries list all that
    they know, and would pay for it with time."""
    wanted = headers.get(b"accept-encoding", b"").strip().lower()
    if wanted in WINDOWS and isinstance(reply.body, bytes):
        deflater = zlib.compressobj(1, zlib.DEFLATED, WINDOWS[wanted])
        reply.body = deflater.compress(reply.body) + deflater.flush()
        reply.headers = (*reply.headers, (b"content-encoding", wanted))
    return reply


_view = InferView.as_view()
ROUTES = [Route("POST", path, _view, infer) for path in PATHS]
