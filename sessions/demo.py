"""What a first start trains: small models that show what the server does, on built-in data.

Sessions whose data is there are queued at once; for the rest a job makes the data first. All of
it goes through the services that a person uses, and a second start repeats nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from datasets.corpora import CorpusChild, find_corpus
from jobs import services as jobs
from jobs.leases import Lease
from jobs.models import Job, JobQuerySet, State, Wanted
from jobs.slices import look_until_done
from ml import hardware
from mlserver.lib.errors import AppError, Invalid
from sessions.models import TrainingSession
from sessions.services import start_session

KIND = "demo"
NONE = "none"
FEW_FILES = 30
"""Of the standard library, for a small corpus: a few hundred functions."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    session: str
    """Name of the session, and so of the model."""
    config: dict[str, Any]
    small: dict[str, Any] = field(default_factory=dict)
    """What differs at small scale."""
    corpus: str | None = None
    """Made first; else the dataset is there from the first start."""
    priority: int = 0
    preemptible: bool = False


DEMOS = {
    "digits": Demo(
        session="digits-demo",
        config={
            "recipe": "network",
            "dataset": "digits",
            "architecture": "cnn",
            "epochs": 12,
            "batch_size": 64,
            "learning_rate": 0.001,
            "optimizer": "adam",
            "seed": 3,
        },
    ),
    "code-security": Demo(
        session="code-security",
        corpus="code-security",
        config={
            "recipe": "features",
            "dataset": "code-security",
            "input": "code",
            "class_weights": "balanced",
            "seed": 3,
        },
    ),
    "code-generator": Demo(
        session="code-generator",
        corpus="python-functions",
        config={
            "recipe": "causal",
            "dataset": "python-functions",
            "from_scratch": True,
            # In minutes of a CPU a million weights that see each function thrice learn more than
            # four million that see it once; and many small steps more than few large ones.
            # One epoch takes 270 CPU seconds (with bf16) and reaches 1.59 bits a byte on unseen
            # functions, two take 530 and reach 1.43 (a 5-gram of bytes: 1.90).
            "hidden_size": 128,
            "layers": 4,
            "heads": 2,
            "vocabulary_size": 2048,
            "dropout": 0.0,
            "max_length": 256,
            "epochs": 3,
            "batch_size": 2,
            "learning_rate": 0.003,
            "scheduler": "cosine",
            "warmup_ratio": 0.03,
            "weight_decay": 0.1,
            "seed": 3,
        },
        small={"hidden_size": 32, "layers": 1, "heads": 2, "max_length": 64, "epochs": 1},
        priority=-10,
        preemptible=True,
    ),
}


def seed_demo(owner: User, *, is_small: bool = False) -> list[str]:
    """Queue what can learn at once, and a job that makes the data of the rest; says what it did.

    `is_small`: few functions and one epoch, seconds instead of minutes.
    """
    missing = _missing()
    told = [_start(owner, demo, is_small) for demo in missing if demo.corpus is None]
    rest = [demo for demo in missing if demo.corpus is not None]
    if rest and not _active_jobs().exists():
        job = jobs.create_job(KIND, owner=owner, spec={"is_small": is_small})
        names = " and ".join(demo.session for demo in rest)
        told.append(f"Queued the making of the data for {names}: {job.pk}.")
    return told


def _missing() -> list[Demo]:
    """Wanted, and neither trained, nor training, nor stopped by a person."""
    wanted = [name for name in settings.DEMO_MODELS if name != NONE]
    if unknown := [name for name in wanted if name not in DEMOS]:
        known = ", ".join((*DEMOS, NONE))
        raise Invalid(f"DEMO_MODELS names {unknown[0]!r}; there are {known}.")
    begun = TrainingSession.objects.exclude(job__state=State.FAILED)
    names = set(begun.values_list("name", flat=True))
    return [DEMOS[name] for name in wanted if DEMOS[name].session not in names]


def _start(owner: User, demo: Demo, is_small: bool) -> str:
    config = demo.config | (demo.small if is_small else {})
    if demo.config["recipe"] == "causal" and hardware.has_fast_bf16():
        config["precision"] = "bf16"
    session = start_session(
        owner=owner,
        config=config,
        name=demo.session,
        priority=demo.priority,
        preemptible=demo.preemptible,
    )
    return f"Queued the training session {demo.session}: {session.pk}."


def _active_jobs() -> JobQuerySet:
    return Job.objects.filter(kind=KIND).active()


# --- The job ------------------------------------------------------------------------------


def count_seats() -> int:
    return 1


def work(lease: Lease) -> bool:
    """One slice: make the data of the next demo, or queue its session. True: not done yet."""
    return look_until_done(lease, _advance)


def abandon(job: Job) -> None:
    """End the children of a job that cannot be looked after."""
    for demo in DEMOS.values():
        if demo.corpus is not None:
            CorpusChild(demo.corpus, _key(job)).stop()


def _key(job: Job) -> str:
    return f"{job.pk}-{job.attempt}"


def _advance(lease: Lease) -> bool:
    """One look; True when the job has ended."""
    job = Job.objects.select_related("owner").get(pk=lease.job_id)
    if job.wanted != Wanted.RUN or job.owner is None:
        abandon(job)
        return jobs.end_job(job, State.CANCELLED, sentence="Cancelled.")
    try:
        for demo in _missing():
            if not _advance_demo(job, job.owner, demo):
                return False
    except AppError as error:
        abandon(job)
        sentence = f"{error.detail} The next `manage.py seed_demo` tries again."
        return jobs.end_job(job, State.FAILED, sentence=sentence, code=error.code)
    return jobs.end_job(job, State.COMPLETED, sentence="All demo models are queued.", progress=100)


def _advance_demo(job: Job, owner: User, demo: Demo) -> bool:
    """True when the session is queued; until then the data is being made."""
    is_small = bool(job.spec.get("is_small"))
    if demo.corpus is not None and find_corpus(demo.corpus) is None:
        child = CorpusChild(demo.corpus, _key(job))
        version = child.look(FEW_FILES if is_small else None)
        if version is None:
            return False
        jobs.log(job.pk, f"Made {version}: {version.sample_count:,} samples.")
    jobs.log(job.pk, _start(owner, demo, is_small))
    return True
