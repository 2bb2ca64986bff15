"""Holding the queue back: what waits keeps its place, what runs goes on."""

from django.db.models import QuerySet

from accounts import audit
from jobs.models import QueueHold
from jobs.services import wake
from mlserver.lib.errors import FieldError, Invalid

LONGEST_REASON = 500


def list_holds(kind: str) -> QuerySet[QueueHold]:
    return QueueHold.objects.filter(kind=kind)


def hold_queue(kind: str, *, reason: str, by: str) -> QueueHold:
    """From now on nothing of this kind starts. Each hold has to be lifted."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        message = f"reason must be a sentence of 1 to {LONGEST_REASON} characters"
        raise Invalid(message, errors=[FieldError(field="reason", message=message, value=reason)])
    audit.record(audit.caller(), "queue.hold", kind, after={"reason": reason, "by": by})
    return QueueHold.objects.create(kind=kind, reason=reason, by=by)


def lift_hold(hold: QueueHold) -> None:
    """The workers wake; another hold may still keep them back."""
    audit.record(audit.caller(), "queue.resume", hold.kind, before={"reason": hold.reason})
    hold.delete()
    wake(hold.kind)


def lift_holds(kind: str) -> int:
    """Lift all of them; how many there were."""
    count, _ = list_holds(kind).delete()
    if count:
        audit.record(audit.caller(), "queue.resume", kind, before={"holds": count})
        wake(kind)
    return count
