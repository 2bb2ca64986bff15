"""Which GPU a session gets on a machine that has several."""

import os

from jobs.models import State
from ml import hardware
from mlserver.lib.locks import exclusive
from sessions.models import TrainingSession


def place(session: TrainingSession) -> dict[str, str]:
    """Environment that shows the trainer one GPU which no other running session holds.

    Empty where there is nothing to choose: at most one GPU, or a device that was named.
    The choice is kept in the summary, for the next attempt and for whoever looks.
    """
    visible = _visible_gpus()
    if len(visible) < 2 or session.config.get("device") != "auto":
        return {}
    with exclusive("gpus"):
        gpu = _free_gpu(visible, session.pk)
        session.summary["gpu"] = gpu
        session.save(update_fields=["summary"])
    return {"CUDA_VISIBLE_DEVICES": gpu}


def lend_gpu(device: str) -> dict[str, str]:
    """The same for a moment's work that is no session: nothing is kept."""
    visible = _visible_gpus()
    if len(visible) < 2 or device != "auto":
        return {}
    return {"CUDA_VISIBLE_DEVICES": _free_gpu(visible, "")}


def _free_gpu(visible: list[str], session_id: str) -> str:
    others = TrainingSession.objects.filter(job__state=State.RUNNING).exclude(pk=session_id)
    taken = {summary.get("gpu") for summary in others.values_list("summary", flat=True)}
    # More seats than GPUs is the operator's choice: then they are shared.
    return next((gpu for gpu in visible if gpu not in taken), visible[0])


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    return [str(index) for index in range(hardware.count_gpus())]
