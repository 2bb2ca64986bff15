"""Waits in a thread for what NVIDIA GPUs report by themselves: XIDs and ECC errors."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

from ml.hardware.nvml import TIMEOUT, Nvml, Unreadable, as_text
from ml.hardware.readings import DriverEvent

logger = logging.getLogger(__name__)

WAIT_MILLISECONDS = 1000
XIDS = {
    13: "graphics engine exception: mostly a program that reads outside of its memory",
    31: "memory page fault: mostly a program that reads outside of its memory",
    43: "the GPU stopped processing: a fault of the program",
    45: "work was removed: a program was killed, or followed another fault",
    48: "double-bit ECC error: the GPU needs a reset",
    63: "a row of memory was remapped",
    64: "a row of memory could not be remapped: the GPU needs repair",
    74: "NVLink error",
    79: "the GPU fell off the bus: reboot the machine",
    92: "many single-bit ECC errors",
    94: "contained ECC error: the program that met it was ended",
    95: "uncontained ECC error: the GPU needs a reset",
    119: "the GPU's own processor (GSP) does not answer: the GPU needs a reset",
}


class EventWatcher:
    """`collect` gives what has come since it was asked last; it never waits."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._events: queue.SimpleQueue[DriverEvent] = queue.SimpleQueue()
        self._is_asked_to_stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, handles: list[Any]) -> None:
        """Raises Unreadable where no GPU reports events."""
        events = self._nvml.call("nvmlEventSetCreate")
        watched = [handle for handle in handles if self._register(events, handle)]
        if not watched:
            self._nvml.call("nvmlEventSetFree", events)
            raise Unreadable("No GPU of this machine reports events.")
        self._thread = threading.Thread(
            target=self._run, args=(events,), name="nvml-events", daemon=True
        )
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        self._is_asked_to_stop.set()
        if self._thread is not None:
            self._thread.join(2 * WAIT_MILLISECONDS / 1000)

    def collect(self) -> list[DriverEvent]:
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def _register(self, events: Any, handle: Any) -> bool:
        module = self._nvml.module
        wanted = module.nvmlEventTypeXidCriticalError | module.nvmlEventTypeDoubleBitEccError
        try:
            offered = self._nvml.call("nvmlDeviceGetSupportedEventTypes", handle)
            if not offered & wanted:
                return False
            self._nvml.call("nvmlDeviceRegisterEvents", handle, offered & wanted, events)
        except Unreadable:  # an old driver, or a lost GPU; the others may report
            return False
        return True

    def _run(self, events: Any) -> None:
        while not self._is_asked_to_stop.is_set():
            try:
                data = self._nvml.call("nvmlEventSetWait_v2", events, WAIT_MILLISECONDS)
                self._events.put(self._describe(data))
            except Unreadable as error:
                if error.code != TIMEOUT:
                    # The driver went away; whoever opens it again starts another watcher.
                    logger.warning("NVIDIA events are not watched any more: %s", error.reason)
                    return

    def _describe(self, data: Any) -> DriverEvent:
        uuid = self._uuid(data.device)
        if data.eventType == self._nvml.module.nvmlEventTypeXidCriticalError:
            code = int(data.eventData)
            meaning = XIDS.get(code, "see NVIDIA's list of XID errors")
            return DriverEvent(kind="xid", uuid=uuid, code=code, message=f"XID {code}: {meaning}.")
        return DriverEvent(kind="ecc", uuid=uuid, message="An uncorrectable ECC error occurred.")

    def _uuid(self, handle: Any) -> str:
        try:
            return as_text(self._nvml.call("nvmlDeviceGetUUID", handle))
        except Unreadable:  # it is this GPU that was lost
            return ""
