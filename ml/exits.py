"""How a trainer ends: the words, their exit codes, and sentences a person understands.

Standard library only; the launcher, the trainer and the supervisor all read it.
"""

from __future__ import annotations

import signal

EXIT_CODES = {
    "spec_error": 65,
    "crashed": 70,
    "already_running": 73,
    "disk_full": 74,
    "lost_lease": 75,
    "data_error": 76,
    "gpu_out_of_memory": 77,
    "host_out_of_memory": 78,
    "diverged": 79,
    "timed_out": 80,
    "io_error": 81,
}
REASONS = {code: reason for reason, code in EXIT_CODES.items()}

SENTENCES = {
    "ended": "The trainer ended in order; result.json says how.",
    "spec_error": "The configuration does not fit; result.json says where.",
    "crashed": "The trainer stopped on an unexpected error; stderr.log has the traceback.",
    "already_running": "Another process is training in this run directory.",
    "disk_full": "The disk is full; free some space and start the session again.",
    "lost_lease": "A newer attempt owns this run, so this one stopped.",
    "data_error": "The data cannot be learned from; result.json says which row or column.",
    "gpu_out_of_memory": "The GPU memory was not enough; try a smaller batch_size.",
    "host_out_of_memory": "The memory of this machine was not enough.",
    "diverged": "The loss was no longer a number; try a smaller learning_rate.",
    "io_error": "A file could not be read or written; stderr.log says which.",
    "timed_out": "max_duration_seconds was used up.",
}

SIGNALS = {
    "SIGKILL": "perhaps the kernel's out-of-memory killer, or somebody's kill -9",
    "SIGTERM": "somebody asked it to stop",
    "SIGINT": "somebody pressed Ctrl-C",
    "SIGSEGV": "a native library touched memory that is not its own",
    "SIGABRT": "a native library gave up; stderr.log may say why",
    "SIGBUS": "memory or a mapped file was gone; perhaps a full disk or /dev/shm",
    "SIGILL": "a native library uses an instruction that this CPU does not have",
    "SIGXCPU": "its limit of CPU time was used up",
    "SIGXFSZ": "a file grew over the limit of file sizes",
}
STOPPED_FROM_OUTSIDE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})


def explain_exit(code: int) -> tuple[str, str]:
    """Reason word and sentence for an exit code; 0 is `ended`."""
    reason = "ended" if code == 0 else REASONS.get(code, "crashed")
    if code != 0 and code not in REASONS:
        return reason, f"The trainer ended with exit code {code}; stderr.log may say why."
    return reason, SENTENCES[reason]


def explain_signal(number: int) -> tuple[str, str]:
    """Reason word (`killed` or `crashed`) and sentence for the signal that ended a trainer."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        name = f"signal {number}"
    reason = "killed" if name in STOPPED_FROM_OUTSIDE else "crashed"
    hint = SIGNALS.get(name)
    return reason, f"{name}: {hint}." if hint else f"The trainer was ended by {name}."
