"""The way to NVML: every call may fail alone, and is then a sentence instead of a number.

What a device or driver will never answer is remembered, so that it is asked only once.
"""

from __future__ import annotations

import time
from typing import Any

from ml.hardware.readings import Observer

UNINITIALIZED, NOT_SUPPORTED, NOT_FOUND, TIMEOUT, FUNCTION_NOT_FOUND = 1, 3, 6, 10, 13
GPU_IS_LOST, RESET_REQUIRED = 15, 16
FOR_EVER = (NOT_SUPPORTED, FUNCTION_NOT_FOUND)  # asking again costs time and changes nothing
SENTENCES = {
    UNINITIALIZED: "The NVIDIA driver went away.",
    NOT_SUPPORTED: "This GPU does not report it.",
    4: "No permission to read the NVIDIA driver.",
    9: "The NVIDIA driver is not loaded.",
    12: "No NVIDIA driver found – running on CPU.",
    FUNCTION_NOT_FOUND: "The NVIDIA driver is too old to report it.",
    GPU_IS_LOST: "The GPU fell off the bus; reboot the machine.",
    RESET_REQUIRED: "The GPU needs a reset (nvidia-smi --gpu-reset).",
    18: "The NVIDIA driver was updated; reboot needed.",
}
OLD_BINDINGS = "The installed nvidia-ml-py does not know this call; update it."


class Unreadable(Exception):
    """One reading could not be taken; the text is the reason to show."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class DeviceLost(Unreadable):
    """Not this reading failed, but the whole device."""


class DriverGone(Unreadable):
    """Not this device is gone, but the driver with all of them."""


class Nvml:
    """`module` is pynvml or speaks like it; `observe` is told of every call."""

    def __init__(self, module: Any, observe: Observer | None = None) -> None:
        self.module = module
        self.observe = observe
        self._refused: dict[tuple[str, str], Unreadable] = {}

    def ask(self, device: str, field: str, name: str, *arguments: Any, **options: Any) -> Any:
        """The answer of the call `name`, or Unreadable. `device` and `field` say what for."""
        known = self._refused.get((device, field))
        if known is not None:
            raise known
        try:
            return self.call(name, *arguments, **options)
        except Unreadable as error:
            if error.code in FOR_EVER:
                self._refused[device, field] = error
            raise

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            answer = self._call(name, *arguments, **options)
        except Unreadable as error:
            self._tell(name, started, error.reason)
            raise
        self._tell(name, started, "")
        return answer

    def forget(self, device: str) -> None:
        """What was refused may be answered now, say after a change of the MIG mode."""
        self._refused = {key: why for key, why in self._refused.items() if key[0] != device}

    def forget_all(self) -> None:
        self._refused.clear()

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        function = getattr(self.module, name, None)
        if function is None:
            raise Unreadable(OLD_BINDINGS, FUNCTION_NOT_FOUND)
        try:
            return function(*arguments, **options)
        except self.module.NVMLError as error:
            raise explain(error.value, str(error)) from error
        except self.module.NVMLLibraryMismatchError as error:
            # What pynvml makes of a missing function whose name has no version.
            raise explain(FUNCTION_NOT_FOUND) from error

    def _tell(self, name: str, started: float, problem: str) -> None:
        if self.observe is not None:
            self.observe(name, time.perf_counter() - started, problem)


def explain(code: int, text: str = "unknown error") -> Unreadable:
    reason = SENTENCES.get(code, f"NVML: {text}.")
    if code == UNINITIALIZED:
        return DriverGone(reason, code)
    if code in (GPU_IS_LOST, RESET_REQUIRED):
        return DeviceLost(reason, code)
    return Unreadable(reason, code)


def as_text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
