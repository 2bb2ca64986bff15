"""The environment of launchers and trainers. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

from ml import failpoints

MARKER = "MLSERVER_RUN"  # whose process this is, for who watches the machine
FOLDER_MARKER = "MLSERVER_RUN_DIR"  # unlike an id, never the same for two runs of a machine
LOCK_VARIABLE = "MLSERVER_LOCK_FD"
# Idle threads of OpenMP should sleep early: spinning on CPUs that others need made a step ten times
# as long, and sleeping at once twice as long on idle ones.
SLEEP_EARLY = {"GOMP_SPINCOUNT": "10000"}
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "TMPDIR",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    failpoints.SWITCH,
    failpoints.PLAN,
)
"""What a training is told of the server's environment; nothing else of it, for it has secrets."""


def launcher_environment(server: Mapping[str, str], session: str) -> dict[str, str]:
    """For a launcher that is started by a process with the environment `server`."""
    return {
        "PATH": "",
        "HOME": "/",
        "LANG": "C.UTF-8",
        **{name: server[name] for name in PASSED_ON if name in server},
        "PYTHONSAFEPATH": "1",
        MARKER: session,
    }


def trainer_environment(launcher: Mapping[str, str]) -> dict[str, str]:
    """For whatever is to import the trainer's libraries."""
    kept = {name: value for name, value in launcher.items() if name != "PYTHONPATH"}
    return {
        **SLEEP_EARLY,
        **kept,
        "PYTHONSAFEPATH": "1",
    }
