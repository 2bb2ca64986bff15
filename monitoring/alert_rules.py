"""Making and changing the rules of alerts: what a rule must satisfy, whichever door it came by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accounts import audit
from mlserver.lib.errors import Conflict, FieldError, Invalid
from mlserver.lib.outgoing import AddressRefused, check_url
from monitoring.models import AlertDelivery, AlertRule, Severity
from monitoring.notices import put_out

CHOICES = {
    "metric": AlertRule.Metric.values,
    "comparison": AlertRule.Comparison.values,
    "severity": Severity.values,
    "target": AlertRule.Target.values,
    "action": AlertRule.Action.values,
}
LONGEST_SECONDS = 7 * 24 * 3600


class NameTaken(Conflict):
    code = "name_taken"


def save_rule(rule: AlertRule, **values: Any) -> AlertRule:
    """Set the values, check the whole, write it. Raises Invalid (fields) or NameTaken."""
    before = {name: getattr(rule, name) for name in values} if rule.pk else {}
    for name, value in values.items():
        setattr(rule, name, value)
    errors = list(_find_errors(rule))
    if errors:
        raise Invalid("; ".join(error.message for error in errors) + ".", errors=errors)
    if AlertRule.objects.filter(name=rule.name).exclude(pk=rule.pk).exists():
        raise NameTaken(f"There is a rule called {rule.name!r} already.")
    rule.save()
    verb = "change" if before else "create"
    after = {name: getattr(rule, name) for name in values}
    audit.record(audit.caller(), f"alert_rule.{verb}", rule.pk, **audit.differences(before, after))
    return rule


def delete_rule(rule: AlertRule) -> None:
    """What it told stays in the history."""
    audit.record(audit.caller(), "alert_rule.delete", rule.pk, before={"name": rule.name})
    rule.delete()


def send_test(rule: AlertRule) -> AlertDelivery:
    """A message to the rule's webhook, as an alert would send it."""
    if rule.target != AlertRule.Target.WEBHOOK:
        raise Conflict(f"{rule.name!r} has no webhook to test.")
    return put_out(rule, {"event": "alert.test", "name": rule.name, "severity": rule.severity})


def _find_errors(rule: AlertRule) -> list[FieldError]:
    found = [_choice(rule, name, known) for name, known in CHOICES.items()]
    found += [_name(rule), _times(rule)]
    found += [*_thresholds(rule), _webhook(rule), _silence(rule)]
    return [error for error in found if error is not None]


def _error(field: str, message: str, value: Any) -> FieldError:
    return FieldError(field=field, message=message, value=value)


def _choice(rule: AlertRule, name: str, known: Sequence[str]) -> FieldError | None:
    value = getattr(rule, name)
    if value in known:
        return None
    return _error(name, f"{name} must be one of {', '.join(repr(one) for one in known)}", value)


def _name(rule: AlertRule) -> FieldError | None:
    rule.name = rule.name.strip()
    if 1 <= len(rule.name) <= 100:
        return None
    return _error("name", "name must have 1 to 100 characters", rule.name)


def _times(rule: AlertRule) -> FieldError | None:
    if 0 <= rule.for_seconds <= LONGEST_SECONDS:
        return None
    message = f"for_seconds must be between 0 and {LONGEST_SECONDS}"
    return _error("for_seconds", message, rule.for_seconds)


def _thresholds(rule: AlertRule) -> list[FieldError | None]:
    for name in ("threshold", "clear_threshold"):
        value = getattr(rule, name)
        if value is not None and not math.isfinite(value):
            return [_error(name, f"{name} must be a finite number", str(value))]
    clear = rule.clear_threshold
    if clear is None:
        return []
    is_above = rule.comparison == AlertRule.Comparison.ABOVE
    if clear <= rule.threshold if is_above else clear >= rule.threshold:
        return []
    side = "at most" if is_above else "at least"
    message = f"clear_threshold must be {side} the threshold ({rule.threshold:g})"
    return [_error("clear_threshold", message, clear)]


def _webhook(rule: AlertRule) -> FieldError | None:
    if rule.target != AlertRule.Target.WEBHOOK:
        return None
    try:
        check_url(rule.webhook_url)
    except AddressRefused as refusal:
        return _error("webhook_url", refusal.detail.rstrip("."), rule.webhook_url)
    if len(rule.webhook_url) > 2000:
        return _error("webhook_url", "webhook_url must have at most 2000 characters", "")
    return None


def _silence(rule: AlertRule) -> FieldError | None:
    """Without a sampler nobody knows which session to pause."""
    wants_pause = rule.action == AlertRule.Action.STOP_SESSION
    if wants_pause and rule.metric == AlertRule.Metric.SILENCE:
        return _error("action", "a silent sampler cannot pause a session", rule.action)
    return None
