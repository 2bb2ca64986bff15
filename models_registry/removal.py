"""Deletes models and versions into the trash, and takes them back: rows and folders together."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts import audit
from mlserver.api.permissions import may_change
from mlserver.lib import trash
from mlserver.lib.errors import Conflict, FieldError, Forbidden, NotFound
from mlserver.lib.locks import exclusive
from mlserver.lib.rows import forget_lost_people, read_rows, write_rows
from models_registry import storage
from models_registry.access import require_change
from models_registry.models import ModelAlias, ModelVersion, RegisteredModel
from models_registry.names import check_name
from models_registry.services import REGISTRY, TRASH, Protected


def delete_version(version: ModelVersion, by: User) -> trash.Entry:
    """Forget a version; its files go to the trash. Refused while an alias or a use holds it."""
    require_change(by, version.model)
    return _delete(version, [version], by)


def delete_model(model: RegisteredModel, by: User) -> trash.Entry:
    """Forget a model with all its versions. Refused while an alias or a use holds one."""
    require_change(by, model)
    return _delete(model, list(model.versions.order_by("number")), by)


def _delete(
    thing: RegisteredModel | ModelVersion, versions: list[ModelVersion], by: User
) -> trash.Entry:
    entry = _open_entry(thing, versions, by)
    try:
        with exclusive(REGISTRY):
            _check_aliases(thing, versions)
            kind = "model" if isinstance(thing, RegisteredModel) else "model_version"
            audit.record(by, f"{kind}.delete", thing, before={"versions": len(versions)})
            thing.delete()
            # After the commit: a refusal must leave the files where they are. Until they are
            # moved no new version takes their place, for it never goes where a folder is.
            transaction.on_commit(entry.fill)
    except Protected:
        entry.forget()
        raise
    except ProtectedError as error:
        entry.forget()
        users = ", ".join(sorted(str(user) for user in error.protected_objects)[:10])
        raise Protected(f"{thing} cannot be deleted while it is used by {users}.") from error
    return entry


def _open_entry(
    thing: RegisteredModel | ModelVersion, versions: list[ModelVersion], by: User
) -> trash.Entry:
    model = thing if isinstance(thing, RegisteredModel) else thing.model
    rows = [*([thing] if thing is model else []), *versions]
    noun = "version" if len(versions) == 1 else "versions"
    return trash.open_entry(
        TRASH,
        model.name,
        label=f"{model}, {len(versions)} {noun}" if thing is model else str(thing),
        owner_id=model.owner_id,
        by=by.username,
        facts={"model": model.pk, "rows": write_rows(rows)},
        folders={str(version.pk): version.folder for version in versions},
    )


def _check_aliases(thing: RegisteredModel | ModelVersion, versions: list[ModelVersion]) -> None:
    aliases = ModelAlias.objects.filter(version__in=versions)
    if held := sorted(alias.name for alias in aliases):
        raise Protected(
            f"{thing} cannot be deleted: the alias {', '.join(held)} points at it. "
            "Move or delete the alias first."
        )


# --- Taking back --------------------------------------------------------------------------


def restore_model(
    name: str, by: User, *, new_name: str = "", entry_id: str | None = None
) -> RegisteredModel:
    """Take back what was deleted last under that name: a model with its versions, or a version."""
    with exclusive(REGISTRY):
        entry = _find_entry(name, entry_id)
        if not may_change(by, entry.owner_id):
            raise Forbidden(f"Only the owner of {name} or an admin takes it back.")
        try:
            with transaction.atomic():
                model = _bring_back(entry, new_name)
                audit.record(by, "model.restore", model, after={"from": entry.label})
        except IntegrityError as error:
            raise Conflict(
                f"{entry.label} cannot come back: a session registered its model again."
            ) from error
    entry.forget()
    return model


def _bring_back(entry: trash.Entry, new_name: str) -> RegisteredModel:
    """Rows first, each with the id it had, so that whatever names it is right again."""
    rows = read_rows(entry.facts["rows"])
    if rows and isinstance(rows[0], RegisteredModel):
        model = _make_model(rows.pop(0), check_name(new_name or entry.name))
    else:
        model = _model_of(entry, new_name)
    for version in rows:
        _make_version(entry, model, version)
    return model


def _make_model(model: RegisteredModel, name: str) -> RegisteredModel:
    if RegisteredModel.objects.filter(name=name).exists():
        message = f"there is a model called {name} now; restore under another name"
        raise Conflict(
            f"{message[0].upper()}{message[1:]}.",
            errors=[FieldError(field="name", message=message, value=name)],
        )
    model.name = name
    forget_lost_people(model, "owner_id")
    model.save(force_insert=True)
    return model


def _model_of(entry: trash.Entry, new_name: str) -> RegisteredModel:
    """The model a single version belonged to. Its numbers only count up, so its number is free."""
    if new_name and new_name != entry.name:
        raise Conflict(f"{entry.label} is one version; it can only return to {entry.name}.")
    model = RegisteredModel.objects.filter(pk=entry.facts["model"]).first()
    if model is None:
        raise Conflict(f"{entry.label} cannot come back: its model is deleted. Restore that first.")
    return model


def _make_version(entry: trash.Entry, model: RegisteredModel, version: ModelVersion) -> None:
    version.model = model
    forget_lost_people(version, "created_by_id")
    key = str(version.pk)
    if version.folder.exists() and (entry.path / key).is_dir():
        version.file_path = storage.free_path(model.name, version.number)
    version.save(force_insert=True)
    entry.take_back(key, version.folder)


def list_deleted() -> list[trash.Entry]:
    return trash.list_entries(TRASH)


def empty_trash() -> int:
    return trash.empty_trash(TRASH)


def _find_entry(name: str, entry_id: str | None) -> trash.Entry:
    entry = trash.find_entry(TRASH, check_name(name), entry_id)
    if entry is None:
        raise NotFound(f"No model called {name} lies in the trash.")
    return entry
