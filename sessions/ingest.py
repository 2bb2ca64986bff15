"""Turns what a trainer wrote into rows: one transaction a batch, fenced by the lease.

The offset in the journal moves in the same transaction, so every event is taken once.
Epochs and points are upserted: after a resume the newer attempt's values stand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from jobs.leases import Lease
from jobs.models import Job, LogLine
from ml import failpoints
from ml.rundir import RunDir, read_events
from sessions.models import EpochMetric, MetricPoint, TrainingSession

logger = logging.getLogger(__name__)

SERIES = (
    "loss",
    "learning_rate",
    "grad_norm",
    "samples_per_second",
    "tokens_per_second",
    "data_seconds",
    "compute_seconds",
    "optimizer_seconds",
)
EPOCH_FIELDS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass
class Batch:
    """What one reading of the journal asks to write."""

    session: TrainingSession
    points: list[tuple[str, str, int, float | None, datetime]] = field(default_factory=list)
    epochs: dict[int, EpochMetric] = field(default_factory=dict)
    lines: list[LogLine] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        known: Callable[[dict[str, Any]], None] = getattr(
            self, f"_take_{event.get('type')}", self._take_unknown
        )
        try:
            known(event)
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
        ):  # a line of another version; the rest must go on
            self._take_unknown(event)

    def _take_unknown(self, event: dict[str, Any]) -> None:
        told = str(event)[:500]
        self._log({}, f"A line of the journal was not understood: {told}", "warning")

    def _take_started(self, event: dict[str, Any]) -> None:
        self.session.total_steps = event["total_steps"]
        self.session.total_epochs = event["total_epochs"]
        # A trainer that died between its checkpoint and its journal left epochs untold.
        for record in event["history"]:
            self._take_epoch_record(record, _moment(event))
        epoch, step = event["resumed_from_epoch"], event["resumed_from_step"]
        how = f"Resumed from epoch {epoch}, step {step}." if step else "Started."
        self._log(event, how)

    def _take_environment(self, event: dict[str, Any]) -> None:
        facts = {k: v for k, v in event.items() if k not in ("seq", "attempt", "at", "type")}
        self.session.summary["environment"] = facts

    def _take_step(self, event: dict[str, Any]) -> None:
        step, at = _number(event["step"]), _moment(event)
        self.session.current_step = step
        for key in SERIES:
            if key in event:
                value = None if event[key] is None else float(event[key])
                self.points.append((self.session.pk, key, step, value, at))

    def _take_epoch(self, event: dict[str, Any]) -> None:
        self._take_epoch_record(event, _moment(event))
        told = (f"{key} {event[key]:.4g}" for key in EPOCH_FIELDS if event.get(key) is not None)
        self._log(event, f"Epoch {event['epoch']}/{self.session.total_epochs}: {', '.join(told)}")

    def _take_epoch_record(self, record: dict[str, Any], at: datetime) -> None:
        epoch = _number(record["epoch"])
        values = {
            key: None if (each := record.get(key)) is None else float(each) for key in EPOCH_FIELDS
        }
        self.epochs[epoch] = EpochMetric(
            session=self.session, epoch=epoch, extra=record.get("extra", {}), timestamp=at, **values
        )
        self.session.current_epoch = epoch
        self.session.summary["latest"] = {"epoch": epoch, **values}

    def _take_evaluated(self, event: dict[str, Any]) -> None:
        self.session.summary["confusion"] = {
            key: event[key] for key in ("epoch", "classes", "confusion")
        }

    def _take_sample(self, event: dict[str, Any]) -> None:
        self.session.summary["samples"] = {key: event[key] for key in ("epoch", "samples")}

    def _take_checkpoint(self, event: dict[str, Any]) -> None:
        kept = {key: event.get(key) for key in ("path", "step", "epoch", "size_bytes", "seconds")}
        self.session.summary["checkpoint"] = kept
        if event.get("best"):
            self.session.summary["best_checkpoint"] = kept

    def _take_log(self, event: dict[str, Any]) -> None:
        level = event.get("level", "info")
        self._log(event, event["message"], level if level in LogLine.Level.values else "info")

    def _take_warning(self, event: dict[str, Any]) -> None:
        self._log(event, event["message"], "warning")

    def _take_paused(self, event: dict[str, Any]) -> None:
        self._log(event, f"Saved at epoch {event['epoch']}, step {event['step']}; stopping.")

    def _take_completed(self, event: dict[str, Any]) -> None:
        self.session.summary["metrics"] = event["metrics"]

    def _take_failed(self, event: dict[str, Any]) -> None:
        """The result says the same and more; the row takes it from there."""

    def _log(self, event: dict[str, Any], message: str, level: str = "info") -> None:
        self.lines.append(
            LogLine(job_id=self.session.pk, timestamp=_moment(event), level=level, message=message)
        )

    def save(self) -> None:
        MetricPoint.objects.upsert(self.points)
        EpochMetric.objects.bulk_create(
            self.epochs.values(),
            update_conflicts=True,
            unique_fields=["session", "epoch"],
            update_fields=[*EPOCH_FIELDS, "extra", "timestamp"],
        )
        LogLine.objects.bulk_create(self.lines)
        for line in self.lines:
            level = logging.getLevelNamesMapping()[line.level.upper()]
            logger.log(level, "Training %s: %s", self.session.pk, line.message)
        self.session.save(
            update_fields=[
                "summary",
                "current_epoch",
                "current_step",
                "total_epochs",
                "total_steps",
            ]
        )


def ingest(session: TrainingSession, run: RunDir, lease: Lease) -> bool:
    """Read what is new in the journal; True when something was. Raises LeaseLost."""
    offset = Job.objects.values_list("journal_offset", flat=True).get(pk=session.pk)
    events, new_offset = read_events(run.journal_path(lease.attempt), offset)
    if new_offset == offset:
        return False
    failpoints.hit("supervisor.after_tail")
    batch = Batch(session)
    for event in events:
        batch.take(event)
    with transaction.atomic():
        lease.write(journal_offset=new_offset, phase="training", progress=_progress(session))
        batch.save()
        failpoints.hit("supervisor.before_commit")
    failpoints.hit("supervisor.after_commit")
    return True


def _progress(session: TrainingSession) -> float:
    if not session.total_steps:
        return 0.0
    return min(100.0, 100.0 * session.current_step / session.total_steps)


def _number(value: Any) -> int:
    """Of a step or an epoch. Raises TypeError, ValueError."""
    if not 0 <= value < 2**31:
        raise ValueError(value)
    return int(value)


def _moment(event: dict[str, Any]) -> datetime:
    return parse_datetime(str(event.get("at", ""))) or timezone.now()
