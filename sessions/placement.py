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
        others = TrainingSession.objects.filter(job__state=State.RUNNING).exclude(pk=session.pk)
        taken = {summary.get("gpu") for summary in others.values_list("summary", flat=True)}
        # More seats than GPUs is the operator's choice: then they are shared.
        free = [gpu for gpu in visible if gpu not in taken] or visible
        session.summary["gpu"] = free[0]
        session.save(update_fields=["summary"])
    return {"CUDA_VISIBLE_DEVICES": free[0]}


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    return [str(index) for index in range(hardware.count_gpus())]
