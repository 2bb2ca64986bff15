"""Which model a request means: by its name, by the task it has an alias for, or the demo's."""

from __future__ import annotations

from jobs.models import Job, State
from mlserver.lib.errors import Conflict, NotFound, Unavailable
from models_registry.models import ModelAlias, RegisteredModel
from models_registry.names import as_kept

CODE_GENERATOR = "code_generator"
"""What document 000 calls the default model."""
DEMOS = {CODE_GENERATOR: "code-generator", "security": "code-security"}
"""Name or task → the demo model (sessions.demo) that stands in until there is another one."""


class StillLearning(Unavailable):
    code = "still_learning"
    retry_after_seconds = 30


class Ambiguous(Conflict):
    code = "ambiguous_task"


def find_reference(model: str | None, task: str | None, *, default: str) -> str:
    """`model`, where one is named; else the one with the alias `task`; else the default name.

    Raises NotFound, Ambiguous, and StillLearning while the demo model is being trained.
    """
    if model is None and task is not None:
        return _find_by_task(task)
    name = model or default
    if name not in DEMOS or _exists(name):
        return name
    return _find_demo(name)


def _find_by_task(task: str) -> str:
    aliases = list(ModelAlias.objects.filter(name=task).select_related("model")[:10])
    if len(aliases) > 1:
        names = ", ".join(sorted(alias.model.name for alias in aliases))
        raise Ambiguous(f"Several models have the alias {task!r}: {names}. Name one as `model`.")
    if aliases:
        return str(aliases[0])
    if task in DEMOS:
        return _find_demo(task)
    raise NotFound(
        f"No model has the alias {task[:100]!r}. Give it to one:"
        " PUT /api/v1/models/<name>/aliases/<task>, or name a `model`."
    )


def _find_demo(name: str) -> str:
    demo = DEMOS[name]
    if _exists(demo):
        return demo
    jobs = Job.objects.filter(kind="train", training_session__name=demo)
    job = jobs.order_by("-created_at").first()
    if job is not None and job.state in (State.QUEUED, State.RUNNING, State.PAUSED):
        raise StillLearning(
            f"The demo model {demo} is still learning: {job.progress:.0f} % (session {job.pk})."
        )
    if Job.objects.filter(kind="demo").active().exists():
        raise StillLearning(f"What the demo model {demo} is to learn from is still being made.")
    raise NotFound(
        f"There is no model {name!r}, and the demo model {demo} was not trained;"
        " 'manage.py seed_demo' trains it."
    )


def _exists(name: str) -> bool:
    return RegisteredModel.objects.filter(name=as_kept(name), versions__isnull=False).exists()
