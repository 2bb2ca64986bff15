"""ONNX models by onnxruntime, one batch in flight."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from ml.serve.errors import LoadRefused, first_line
from ml.serve.runtimes import Options
from ml.serve.signature import DATATYPES, Signature, TensorSpec
from ml.serve.tensors import Inputs

OPTIMIZATION = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
)
GPU_PROVIDERS = ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider")
ERRORS_ONLY = 3
ELEMENTS = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
assert set(ELEMENTS.values()) == set(DATATYPES)


class OnnxRuntime:
    def __init__(self, path: Path, options: Options) -> None:
        onnxruntime.set_default_logger_severity(ERRORS_ONLY)
        onnxruntime.disable_telemetry_events()
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), _session_options(options), providers=choose_providers(options)
            )
        except Exception as error:  # the library's errors have no common base but this
            raise LoadRefused(
                f"onnxruntime cannot load {path.name}: {first_line(error)}"
            ) from error
        self.signature = Signature(
            inputs=tuple(_spec(value) for value in self._session.get_inputs()),
            outputs=tuple(_spec(value) for value in self._session.get_outputs()),
        )

    def predict(self, inputs: Inputs, outputs: Sequence[str]) -> Inputs:
        return dict(zip(outputs, self._session.run(list(outputs), inputs), strict=True))

    def close(self) -> None:
        del self._session


def _session_options(options: Options) -> Any:
    chosen = onnxruntime.SessionOptions()
    chosen.graph_optimization_level = OPTIMIZATION[options.optimization_level]
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    # Threads that spin while they wait take the cores from whoever has work for them.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


def choose_providers(options: Options) -> list[Any]:
    """The device's own first, the CPU for what it cannot do; raises LoadRefused without one."""
    if options.device == "cpu":
        return ["CPUExecutionProvider"]
    number = options.device.partition(":")[2] or "0"
    found = [name for name in GPU_PROVIDERS if name in onnxruntime.get_available_providers()]
    if not found:
        raise LoadRefused(
            "This onnxruntime was built without GPU support; install onnxruntime-gpu, or load the"
            " model with device cpu."
        )
    return [*((name, {"device_id": number}) for name in found), "CPUExecutionProvider"]


def _spec(value: Any) -> TensorSpec:
    if value.type not in ELEMENTS:
        raise LoadRefused(
            f"{value.name!r} is a {value.type}, which is not served: export the model with plain"
            " tensors (of skl2onnx: the option zipmap=False)."
        )
    # A size with a name, or without one, is open.
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=value.name, datatype=ELEMENTS[value.type], shape=shape)
