"""What a person or a finished session may ask of the registry."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction

from accounts import audit
from ml.formats.header import HeaderError
from ml.formats.header import read_header as read_safetensors_header
from mlserver.lib import trash
from mlserver.lib.errors import AppError, Conflict, NotFound
from mlserver.lib.locks import exclusive
from mlserver.lib.suggestions import suggest
from models_registry import storage
from models_registry.access import require_change
from models_registry.models import ModelAlias, ModelVersion, RegisteredModel
from models_registry.names import (
    LATEST,
    LONGEST_NAME,
    as_kept,
    check_alias,
    check_name,
    version_number,
)

TRASH = "models"
REGISTRY = "models"  # the lock of all who make or delete versions, folders included


class Protected(Conflict):
    """Something still counts on it."""

    code = "protected"


class Damaged(AppError):
    """Files of a version are not as they were registered: not the caller's fault."""

    code = "damaged"


# --- Registering ------------------------------------------------------------------------


def register_version(
    *,
    name: str,
    folder: Path,
    owner: User | None,
    framework: str = "pytorch",
    task: str,
    metrics: dict[str, Any],
    lineage: dict[str, Any],
    signature: dict[str, Any] | None = None,
    card: str = "",
    may_rename: bool = True,
) -> ModelVersion:
    """Copy a finished model folder into the registry as the next version of `name`.

    The same lineage["session"] always gives the same version, however often and from
    however many processes it is registered. A name that belongs to somebody else is left
    alone: the version goes to `name-2`, so that no training is lost to a name; without
    `may_rename` that is Forbidden.
    """
    session = str(lineage.get("session") or "")
    if made := _made_by(session):
        return made
    name = check_name(name)
    incoming, files = storage.copy_in(folder)
    try:
        with exclusive(REGISTRY):
            model = _model_for(name, owner) if may_rename else _changeable(name, owner)
            model.last_number = _next_number(model)
            model.save(update_fields=["last_number"])
            version = ModelVersion.objects.create(
                model=model,
                number=model.last_number,
                framework=framework,
                task=task,
                files=files,
                size_bytes=sum(file["size_bytes"] for file in files),
                signature=signature,
                metrics=metrics,
                lineage=lineage,
                source_session=session,
                card=card,
                file_path=storage.free_path(model.name, model.last_number),
                created_by=owner,
            )
            origin = {"session": session} if session else {}
            facts = {**origin, "size_bytes": version.size_bytes}
            audit.record(owner, "model_version.register", version, after=facts)
            # Last, so that a refusal of the database leaves no folder behind.
            storage.place(incoming, version.file_path)
    except IntegrityError:
        # Another process registered the same session since we looked.
        if made := _made_by(session):
            return made
        raise
    finally:
        storage.remove(incoming)
    return version


def _made_by(session: str) -> ModelVersion | None:
    if not session:
        return None
    return ModelVersion.objects.select_related("model").filter(source_session=session).first()


def _model_for(name: str, owner: User | None) -> RegisteredModel:
    """The owner's model of that name, or of the first free name after it."""
    for number in count(1):
        suffix = "" if number == 1 else f"-{number}"
        model, _ = RegisteredModel.objects.get_or_create(
            name=name[: LONGEST_NAME - len(suffix)] + suffix, defaults={"owner": owner}
        )
        if model.owner == owner:
            return model
    raise AssertionError("count() does not end")


def _changeable(name: str, owner: User | None) -> RegisteredModel:
    model, _ = RegisteredModel.objects.get_or_create(name=name, defaults={"owner": owner})
    require_change(owner or AnonymousUser(), model)
    return model


def _next_number(model: RegisteredModel) -> int:
    highest = model.versions.order_by("-number").values_list("number", flat=True).first() or 0
    return max(model.last_number, highest) + 1


# --- Finding ----------------------------------------------------------------------------


def find_model(name: str) -> RegisteredModel:
    """The model of that name; `org/name`, as on the Hub, is kept as `org--name`."""
    rows = RegisteredModel.objects.select_related("owner")
    model = rows.filter(name=as_kept(name)).first()
    if model is None:
        raise NotFound(f"Model not found: {name[:LONGEST_NAME]}.{_deleted(name) or _suggest(name)}")
    return model


def find_version(reference: str) -> ModelVersion:
    """`digits` and `digits@latest`, `digits@3`, `digits@champion`."""
    name, _, which = reference.partition("@")
    return pick_version(find_model(name), which or LATEST)


def pick_version(model: RegisteredModel, reference: str = LATEST) -> ModelVersion:
    """A version of a model by number, alias, or `latest`."""
    versions = model.versions.select_related("model__owner", "created_by")
    number = version_number(reference)
    if number is not None:
        found = versions.filter(number=number).first()
    elif reference == LATEST:
        found = versions.order_by("-number").first()
    else:
        found = versions.filter(aliases__name=reference).first()
    if found is None:
        raise NotFound(f"{model.name} has no version {reference!r}.{_list_versions(model)}")
    return found


def _deleted(name: str) -> str:
    entry = trash.find_entry(TRASH, name)
    return "" if entry is None else f" It {entry.way_back}"


def _suggest(name: str) -> str:
    names = RegisteredModel.objects.values_list("name", flat=True)[:10_000]
    near = suggest(name, names)
    return f" Did you mean {near}?" if near else ""


def _list_versions(model: RegisteredModel) -> str:
    numbers = [str(n) for n in model.versions.values_list("number", flat=True)[:10]]
    aliases = list(model.aliases.values_list("name", flat=True)[:10])
    return f" It has {', '.join(numbers + aliases)}." if numbers else " It has none yet."


# --- Changing ---------------------------------------------------------------------------


def set_description(model: RegisteredModel, description: str, by: User) -> RegisteredModel:
    require_change(by, model)
    before, after = {"description": model.description}, {"description": description}
    model.description = description
    with transaction.atomic():
        model.save(update_fields=["description"])
        audit.record(by, "model.change", model, before=before, after=after)
    return model


def set_card(version: ModelVersion, card: str, by: User) -> ModelVersion:
    """The card is what people write about a version; its files and facts never change."""
    require_change(by, version.model)
    before, after = {"card": version.card}, {"card": card}
    version.card = card
    with transaction.atomic():
        version.save(update_fields=["card"])
        audit.record(by, "model_version.change", version, before=before, after=after)
    return version


def set_alias(model: RegisteredModel, alias: str, version: ModelVersion, by: User) -> ModelAlias:
    """Point an alias at a version of this model, in one step if it pointed elsewhere."""
    require_change(by, model)
    if version.model_id != model.pk:
        raise ValueError(f"{version} is no version of {model}")
    check_alias(alias)
    with exclusive(REGISTRY):
        version = pick_version(model, str(version.number))  # not deleted since it was found
        row, _ = ModelAlias.objects.update_or_create(
            model=model, name=alias, defaults={"version": version}
        )
        audit.record(by, "model.alias", f"{model}@{alias}", after={"version": version.number})
    return row


def delete_alias(model: RegisteredModel, alias: str, by: User) -> None:
    require_change(by, model)
    with transaction.atomic():
        deleted, _ = model.aliases.filter(name=alias).delete()
        if not deleted:
            raise NotFound(f"{model.name} has no alias {alias!r}.")
        audit.record(by, "model.unalias", f"{model}@{alias}")


# --- Files ------------------------------------------------------------------------------


def read_header(version: ModelVersion) -> dict[str, Any]:
    """What each safetensors file of a version holds: tensors, types, parameter count."""
    headers = {}
    for file in version.files:
        if file["path"].endswith(".safetensors"):
            try:
                headers[file["path"]] = read_safetensors_header(_locate(version, file)).to_dict()
            except HeaderError as error:
                raise Damaged(f"{file['path']} of {version} cannot be read: {error}.") from error
    return headers


def list_members(version: ModelVersion) -> list[tuple[str, Path]]:
    """All files of a version, named as in its archive: in one folder, `digits-v3/…`."""
    return [
        (f"{archive_stem(version)}/{entry['path']}", _locate(version, entry))
        for entry in version.files
    ]


def archive_stem(version: ModelVersion) -> str:
    return f"{version.model.name}-v{version.number}"


def find_file(version: ModelVersion, path: str) -> tuple[Path, str]:
    """Where one file of a version lies, and its sha256."""
    # Compared with the list, never joined to a folder: `..` finds nothing.
    for entry in version.files:
        if entry["path"] == path:
            return _locate(version, entry), entry["sha256"]
    names = ", ".join(entry["path"] for entry in version.files[:20])
    raise NotFound(f"{version} has no file {path[:200]!r}; it has {names}.")


def _locate(version: ModelVersion, entry: dict[str, Any]) -> Path:
    path: Path = version.folder / entry["path"]
    if not path.is_file() or path.stat().st_size != entry["size_bytes"]:
        raise Damaged(
            f"{entry['path']} of {version} is missing on disk or was changed; "
            "restore it from a backup."
        )
    return path
