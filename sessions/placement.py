"""Which GPU a session gets on a machine that has several."""

import os

from jobs.models import State
from ml import hardware
from mlserver.lib.locks import exclusive
from sessions.models import TrainingSession


def place(session: TrainingSession) -> dict[str, str]:
    """Environment that shows the trainer GPUs which no other running session holds.

    One, or one for each of its processes. Empty where there is nothing to choose: at most one
    GPU, or a device that was named. The choice is kept in the summary, for the next attempt and
    for whoever looks.
    """
    visible = _visible_gpus()
    if len(visible) < 2 or session.config.get("device") != "auto":
        return {}
    with exclusive("gpus"):
        gpus = _free_gpus(visible, session.pk)[: session.config.get("num_processes", 1)]
        session.summary |= {"gpu": gpus[0], "gpus": gpus}
        session.save(update_fields=["summary"])
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def lend_gpu(device: str) -> dict[str, str]:
    """The same for a moment's work that is no session: nothing is kept."""
    visible = _visible_gpus()
    if len(visible) < 2 or device != "auto":
        return {}
    return {"CUDA_VISIBLE_DEVICES": _free_gpus(visible, "")[0]}


def _free_gpus(visible: list[str], session_id: str) -> list[str]:
    """All that are visible, those that nobody holds first."""
    others = TrainingSession.objects.filter(job__state=State.RUNNING).exclude(pk=session_id)
    summaries = others.values_list("summary", flat=True)
    taken = {gpu for summary in summaries for gpu in summary.get("gpus", [])}
    # More seats than GPUs is the operator's choice: then they are shared.
    return sorted(visible, key=lambda gpu: gpu in taken)


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    return [str(index) for index in range(hardware.count_gpus())]
