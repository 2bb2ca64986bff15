"""What people ask of models in memory: load, unload, find one that answers."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from accounts import audit
from inference.access import require_change
from inference.client import NotAnswering
from inference.models import LoadedModel, State
from mlserver.lib.errors import Conflict, NoSpace, Unavailable
from mlserver.lib.locks import exclusive
from mlserver.lib.single import is_held
from models_registry.models import ModelVersion
from models_registry.services import find_model, find_version

LOCK = "loaded models"
LOOK_SECONDS = 0.05


class NotLoaded(Conflict):
    code = "not_loaded"


class LoadFailed(Conflict):
    """The model is refused by its runtime, or its worker dies again and again."""

    code = "load_failed"


class ManagerAway(Unavailable):
    code = "manager_away"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How a model is to be loaded."""

    device: str = "auto"
    optimization_level: int = 2
    is_pinned: bool = False
    keep_alive_seconds: int | None = None


# --- Loading ------------------------------------------------------------------------------


def load_model(reference: str, by: User, wish: Wish) -> LoadedModel:
    """Ask for a version to be in memory. One that is there or on its way stays as it is, but for
    pin and keep-alive; one that failed is tried again."""
    version = find_version(reference)
    with exclusive(LOCK):
        loaded = LoadedModel.objects.filter(version=version).select_related("owner").first()
        if loaded is None:
            loaded = LoadedModel.objects.create(version=version, owner=by, **vars(wish))
        elif loaded.is_wanted and loaded.state != State.FAILED:
            _change(loaded, by, wish)
        else:
            _load_again(loaded, by, wish)
        audit.record(by, "model.load", version, after=vars(wish))
    return loaded


def _change(loaded: LoadedModel, by: User, wish: Wish) -> None:
    is_other_device = wish.device not in ("auto", loaded.device.partition(":")[0])
    if is_other_device or wish.optimization_level != loaded.optimization_level:
        raise Conflict(
            f"{loaded} is loaded on {loaded.device} with optimization level"
            f" {loaded.optimization_level}; unload it first to load it otherwise."
        )
    wished = (wish.is_pinned, wish.keep_alive_seconds)
    if wished != (loaded.is_pinned, loaded.keep_alive_seconds):
        require_change(by, loaded)
        loaded.is_pinned, loaded.keep_alive_seconds = wished
        loaded.save(update_fields=["is_pinned", "keep_alive_seconds"])


def _load_again(loaded: LoadedModel, by: User, wish: Wish) -> None:
    fresh = LoadedModel(pk=loaded.pk, version=loaded.version, owner=by, **vars(wish))
    if loaded.pid is not None:  # its worker must end first
        fresh.state, fresh.pid, fresh.socket = State.UNLOADING, loaded.pid, loaded.socket
    fresh.save()
    loaded.refresh_from_db()


def request_loading(reference: str, by: User) -> LoadedModel:
    """For somebody who wants an answer of it; raises ManagerAway where nobody would load it."""
    _require_manager()
    return load_model(reference, by, Wish())


def wait_until_loaded(loaded: LoadedModel, timeout_seconds: float) -> LoadedModel:
    """The row when it is ready, or as it is when the time is over. Raises LoadFailed or NoSpace
    where it failed, ManagerAway where nobody loads."""
    ends_at = time.monotonic() + timeout_seconds
    while True:
        loaded.refresh_from_db()
        if loaded.state == State.READY:
            return loaded
        if loaded.state == State.FAILED:
            raise as_error(loaded)
        _require_manager()
        if time.monotonic() >= ends_at:
            return loaded
        time.sleep(LOOK_SECONDS)


def as_error(loaded: LoadedModel) -> NoSpace | LoadFailed:
    if loaded.error_code == NoSpace.code:
        return NoSpace(loaded.error)
    return LoadFailed(f"{loaded} was not loaded. {loaded.error}")


def has_manager() -> bool:
    """Whether somebody on this machine loads models."""
    return is_held(settings.VAR_DIR / "inference.pid")


def _require_manager() -> None:
    if not has_manager():
        raise ManagerAway(
            "Nobody loads models now: the inference manager does not run."
            " 'manage.py run_inference' starts it, and so does 'manage.py serve'."
        )


def unload_model(reference: str, by: User) -> LoadedModel:
    """Ask for its memory back: what it has begun is answered first."""
    with transaction.atomic():
        loaded = find_loaded(reference)
        require_change(by, loaded)
        dismiss(loaded)
        audit.record(by, "model.unload", loaded.version)
    return loaded


def dismiss(loaded: LoadedModel) -> None:
    loaded.is_wanted = False
    loaded.save(update_fields=["is_wanted"])


# --- Finding ------------------------------------------------------------------------------


def find_loaded(reference: str) -> LoadedModel:
    """`digits`: the newest version that is in memory; `digits@3`, `digits@champion`: that one.

    A training that registers a newer version does not take a loaded model from those who use it.
    """
    name, _, which = reference.partition("@")
    rows = LoadedModel.objects.of_model(find_model(name).name)
    if which:
        version = find_version(reference)
        loaded = rows.filter(version=version).first()
    else:
        loaded = rows.filter(state=State.READY).first() or rows.first()
    if loaded is None:
        raise _not_loaded(find_version(reference), [str(row) for row in rows[:10]])
    return loaded


def find_ready(reference: str) -> LoadedModel:
    """One that answers now. Raises NotAnswering while it is on its way, or why it failed."""
    loaded = find_loaded(reference)
    if loaded.state == State.FAILED:
        raise as_error(loaded)
    if loaded.state != State.READY:
        stage = f" ({loaded.stage})" if loaded.stage else ""
        raise NotAnswering(f"{loaded} is {loaded.state}{stage}; try again in a moment.")
    return loaded


def _not_loaded(version: ModelVersion, others: list[str]) -> NotLoaded:
    beside = f" Loaded are {', '.join(others)}." if others else ""
    return NotLoaded(
        f"{version} is not loaded; POST /api/v1/models/load with"
        f' {{"model_name": "{version}"}} loads it.{beside}'
    )
