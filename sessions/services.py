"""What a person may ask of a training session."""

from __future__ import annotations

import shutil
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from accounts import audit
from datasets.models import DatasetVersion
from datasets.services import find_version
from jobs import services as jobs
from jobs.models import Job
from jobs.services import WrongState
from ml import hardware
from ml.config import (
    CausalConfig,
    ClassifyConfig,
    FeaturesConfig,
    NetworkConfig,
    Text2TextConfig,
    TextConfig,
    TrainingConfig,
    parse_config,
)
from ml.fields import ConfigError
from ml.rundir import RunDir
from ml.text_fields import NoSuchColumn, find_fields
from mlserver.lib.errors import FieldError, Forbidden, Invalid, NoSpace
from models_registry.names import check_name
from sessions.access import can_change
from sessions.bases import check_base, describe_base
from sessions.models import TrainingSession
from sessions.processes import end_trees

MINIMUM_FREE_BYTES = 200 * 2**20  # below this no session is started
TOO_LITTLE_SPACE = "Less than 200 MB are free where runs are kept."


class ConfigInvalid(Invalid):
    code = "invalid_config"


def start_session(
    *,
    owner: User,
    config: dict[str, Any],
    name: str = "",
    priority: int = 0,
    preemptible: bool = False,
    cloned_from: TrainingSession | None = None,
) -> TrainingSession:
    """Check everything that can be known now, then put a new session into the queue.

    A preemptible one gives its seat to whatever else waits, and goes on afterwards. Raises
    ConfigInvalid (fields), NotFound (dataset), NoSpace.
    """
    parsed = check_config(config)
    if name:
        check_name(name)  # it will name the model
    version = find_version(str(parsed.dataset))
    check_dataset(parsed, version)
    if not has_space():
        raise NoSpace(f"{TOO_LITTLE_SPACE} Delete something first.")
    with transaction.atomic():
        job = jobs.create_job(
            "train", owner=owner, spec=config, priority=priority, preemptible=preemptible
        )
        base = describe_base(parsed) if isinstance(parsed, TextConfig) else ""
        complete = {**parsed.to_dict(), "session": job.pk, "dataset": str(version)}
        if base:
            complete["base_model"] = base
        session = TrainingSession.objects.create(
            job=job,
            name=name,
            recipe=parsed.recipe,
            config=complete,
            dataset_version=version,
            base_model=base,
            total_epochs=parsed.epochs,
            cloned_from=cloned_from,
        )
        facts = {"name": name, "dataset": str(version), "recipe": parsed.recipe}
        if cloned_from is not None:
            facts["cloned_from"] = cloned_from.pk
        audit.record(owner, "session.start", session.pk, after=facts)
    return session


def clone_session(
    source: TrainingSession,
    *,
    owner: User,
    changes: dict[str, Any],
    name: str | None = None,
    priority: int = 0,
) -> TrainingSession:
    """Start a session with the configuration of another, but for `changes`; it names its source.

    `name` None: the source's. Raises what start_session raises.
    """
    config = {key: value for key, value in source.config.items() if key != "session"}
    return start_session(
        owner=owner,
        config={**config, **changes},
        name=source.name if name is None else name,
        priority=priority,
        cloned_from=source,
    )


def has_space() -> bool:
    return shutil.disk_usage(settings.RUNS_DIR).free >= MINIMUM_FREE_BYTES


def check_config(config: dict[str, Any]) -> TrainingConfig:
    """The configuration as `ml` understands it; fields that the server sets are refused."""
    if "session" in config:
        raise _invalid("session", "session is given by the server; leave it out", config["session"])
    try:
        parsed = parse_config(config)
    except ConfigError as error:
        raise ConfigInvalid(
            str(error),
            errors=[
                FieldError(field=e.field, message=e.message, code=e.code, value=e.value)
                for e in error.errors
            ],
        ) from None
    if not isinstance(parsed.dataset, str):
        raise _invalid("dataset", "dataset must be the name of a dataset on this server", None)
    if isinstance(parsed, TextConfig):
        check_base(parsed)
    return parsed


def check_dataset(config: TrainingConfig, version: DatasetVersion) -> None:
    """Refuse what cannot be learned from this dataset, before anything waits in the queue."""
    if isinstance(config, NetworkConfig):
        _check_network_dataset(config, version)
    if isinstance(config, FeaturesConfig):
        _check_features_dataset(config, version)
    if isinstance(config, Text2TextConfig | CausalConfig | ClassifyConfig):
        _check_language_dataset(config, version)


def _check_language_dataset(
    config: Text2TextConfig | CausalConfig | ClassifyConfig, version: DatasetVersion
) -> None:
    if version.kind not in ("table", "text"):
        raise _invalid(
            "dataset",
            f"recipe {config.recipe} learns from texts; {version} is {version.kind}",
            str(version),
        )
    columns = [column["name"] for column in version.schema.get("columns", [])]
    try:
        find_fields(config, columns)
    except NoSuchColumn as error:
        raise _invalid(error.field, str(error), getattr(config, error.field)) from None
    if isinstance(config, ClassifyConfig):
        _check_column("target", config.target, version)
        if version.kind == "text":
            raise _invalid(
                "dataset", f"recipe classify needs a column of classes; {version} has none", None
            )


def _check_features_dataset(config: FeaturesConfig, version: DatasetVersion) -> None:
    if version.kind != "table":
        raise _invalid(
            "dataset",
            f"recipe features learns from tables, texts and code; {version} is {version.kind}",
            str(version),
        )
    _check_column("target", config.target, version)
    _check_column("text_column", config.text_column, version)


def _check_column(field: str, name: str | None, version: DatasetVersion) -> None:
    columns = [column["name"] for column in version.schema.get("columns", [])]
    if name is not None and name not in columns:
        sentence = f"{field} {name!r} is no column of {version}; it has {', '.join(columns[:20])}"
        raise _invalid(field, sentence, name)


def _check_network_dataset(config: NetworkConfig, version: DatasetVersion) -> None:
    if version.kind not in ("table", "image"):
        raise _invalid(
            "dataset",
            f"recipe network learns from tables and images; {version} is {version.kind}",
            str(version),
        )
    _check_column("target", config.target, version)
    if config.architecture == "cnn" and version.kind != "image":
        raise _invalid(
            "architecture", f"architecture cnn needs images; {version} is a table", "cnn"
        )


def _invalid(field: str, message: str, value: Any) -> ConfigInvalid:
    return ConfigInvalid(message, errors=[FieldError(field=field, message=message, value=value)])


def cancel_session(session: TrainingSession, by: User) -> TrainingSession:
    _check_change(session, by)
    before = {"state": session.job.state}
    jobs.cancel_job(session.job)
    audit.record(by, "session.cancel", session.pk, before=before)
    return session


def pause_session(session: TrainingSession, by: User) -> TrainingSession:
    _check_change(session, by)
    before = {"state": session.job.state}
    jobs.pause_job(session.job)
    audit.record(by, "session.pause", session.pk, before=before)
    return session


def resume_session(session: TrainingSession, by: User) -> TrainingSession:
    _check_change(session, by)
    before = {"state": session.job.state}
    jobs.resume_job(session.job)
    audit.record(by, "session.resume", session.pk, before=before)
    return session


def set_priority(session: TrainingSession, by: User, priority: int) -> TrainingSession:
    _check_change(session, by)
    before = {"priority": session.job.priority}
    jobs.set_priority(session.job, priority)
    after = {"priority": session.job.priority}
    audit.record(by, "session.change", session.pk, before=before, after=after)
    return session


def rename_session(session: TrainingSession, by: User, name: str) -> TrainingSession:
    _check_change(session, by)
    if name:
        check_name(name)
    audit.record(
        by, "session.change", session.pk, before={"name": session.name}, after={"name": name}
    )
    session.name = name
    session.save(update_fields=["name"])
    return session


def delete_session(session: TrainingSession, by: User) -> None:
    """Forget a session that has ended, with its run directory; its model stays."""
    _check_change(session, by)
    if not session.job.is_final:
        raise WrongState(f"{session.job_id} is {session.job.state}; cancel it before deleting it.")
    run_path = session.run_path
    before = {"name": session.name, "state": session.job.state}
    audit.record(by, "session.delete", session.pk, before=before)
    session.job.delete()
    if run_path.is_dir():
        shutil.rmtree(run_path)


def _check_change(session: TrainingSession, by: User) -> None:
    if not can_change(by, session):
        raise Forbidden(f"{session.job_id} belongs to somebody else; its owner or an admin may.")


def count_seats() -> int:
    """How many may run at once: MAX_CONCURRENT_SESSIONS, else one per GPU, at least one."""
    return settings.MAX_CONCURRENT_SESSIONS or max(1, hardware.count_gpus())


def shutdown_running(grace_seconds: float = 2.5) -> list[str]:
    """Ask what runs for a checkpoint, end it, and put it back into the queue.

    For the end of the server. Returns the ids. A trainer that does not end in time is
    killed and continues later from its newest checkpoint.
    """
    running = list(Job.objects.filter(kind="train").running())
    runs = [RunDir(settings.RUNS_DIR / job.pk) for job in running]
    for run in runs:
        if run.is_locked():
            run.write_control("pause")
    end_trees(runs, grace_seconds)
    for job in running:
        jobs.requeue_job(
            job, code="shutdown", sentence="The server was stopped; it goes on from its checkpoint."
        )
    return [job.pk for job in running]
