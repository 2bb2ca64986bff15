"""The pages of alerts: what is open, what was, and the rules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from mlserver.api.permissions import ADMIN, OPERATOR, has_role
from mlserver.lib.errors import AppError, NotFound
from mlserver.lib.webhooks import signing_secret
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from mlserver.pages.paging import list_rows
from monitoring import alerts
from monitoring.alert_readings import condition, unit_of
from monitoring.alert_rules import delete_rule, save_rule, send_test
from monitoring.models import Alert, AlertRule, Severity

TABS = ("open", "history", "rules")
MUTE_HOURS = (1, 8, 24, 168)
NUMBERS = {"threshold": float, "clear_threshold": float, "for_seconds": int}
TEXTS = ("name", "metric", "comparison", "severity", "target", "webhook_url", "action")


@page()
def list_page(request: HttpRequest) -> HttpResponse:
    tab = request.GET.get("tab", "open")
    tab = tab if tab in TABS else "open"
    now = timezone.now()
    counts = {
        "open": Alert.objects.open().count(),
        "history": Alert.objects.filter(state=Alert.State.CLOSED).count(),
        "rules": AlertRule.objects.count(),
    }
    context = {
        "tab": tab,
        "tabs": list(counts.items()),
        "may_edit": has_role(request.user, ADMIN),
        "hours": MUTE_HOURS,
        "now": now,
        "command": curl(request, f"/api/v1/system/{_resource(tab)}"),
        **_rows(request, tab),
    }
    return render(request, "monitoring/alerts.html", context)


def _resource(tab: str) -> str:
    return {"rules": "alert-rules/", "open": "alerts/?state=open"}.get(tab, "alerts/?state=closed")


def _rows(request: HttpRequest, tab: str) -> dict[str, Any]:
    if tab == "rules":
        rules = AlertRule.objects.all()
        return {"rules": [(rule, condition(rule), unit_of(rule.metric)) for rule in rules]}
    state = Alert.State.OPEN if tab == "open" else Alert.State.CLOSED
    rows = Alert.objects.filter(state=state).select_related("rule").order_by("-opened_at", "-id")
    return {"listing": list_rows(request, rows)}


@page("POST", role=OPERATOR)
def acknowledge(request: HttpRequest, alert_id: int) -> HttpResponse:
    alert = Alert.objects.shown().filter(pk=alert_id).first()
    if alert is None:
        raise NotFound(f"There is no alert {alert_id}.")
    alerts.acknowledge(alert, person(request).username)
    return redirect("alerts-page")


# --- Rules ------------------------------------------------------------------------------------


@page("GET", "HEAD", "POST", role=ADMIN)
def rule_page(request: HttpRequest, rule_id: int | None = None) -> HttpResponse:
    rule = AlertRule() if rule_id is None else _find(rule_id)
    typed = request.POST.dict() if request.method == "POST" else _as_typed(rule)
    errors: dict[str, str] = {}
    if request.method == "POST":
        try:
            save_rule(rule, **_read(typed))
        except AppError as error:
            errors = {e.field: e.message for e in error.errors} or {"name": error.detail}
        else:
            messages.success(request, f"The rule “{rule.name}” holds from now on.")
            return redirect("/system/alerts/?tab=rules")
    context = {
        "rule": rule,
        "rule_id": rule_id,
        "typed": typed,
        "errors": errors,
        "metrics": AlertRule.Metric.choices,
        "comparisons": AlertRule.Comparison.choices,
        "severities": Severity.choices,
        "actions": AlertRule.Action.choices,
        "targets": AlertRule.Target.choices,
        "secret": signing_secret(rule.webhook_url) if rule.webhook_url and rule_id else "",
        "deliveries": list(rule.deliveries.all()[:20]) if rule_id else [],
        "command": curl(request, "/api/v1/system/alert-rules/", _example(rule)),
    }
    return render(request, "monitoring/rule.html", context, status=422 if errors else 200)


def _find(rule_id: int) -> AlertRule:
    rule = AlertRule.objects.filter(pk=rule_id).first()
    if rule is None:
        raise NotFound(f"There is no rule {rule_id}.")
    return rule


def _as_typed(rule: AlertRule) -> dict[str, str]:
    numbers = {name: getattr(rule, name) for name in NUMBERS}
    return {
        **{name: getattr(rule, name) for name in TEXTS},
        **{name: "" if value is None else f"{value:g}" for name, value in numbers.items()},
        "is_enabled": "on" if rule.is_enabled else "",
    }


def _read(typed: dict[str, str]) -> dict[str, Any]:
    """The form's texts as values; a number that is none stays NaN, which the service refuses."""
    values: dict[str, Any] = {name: typed.get(name, "").strip() for name in TEXTS}
    for name, kind in NUMBERS.items():
        text = typed.get(name, "").strip()
        try:
            values[name] = kind(text) if text else None
        except ValueError:
            values[name] = float("nan") if kind is float else -1
    if values["threshold"] is None:
        values["threshold"] = float("nan")
    values["for_seconds"] = values["for_seconds"] or 0
    return {**values, "is_enabled": typed.get("is_enabled") == "on"}


def _example(rule: AlertRule) -> dict[str, Any]:
    return {
        "name": rule.name or "Disk nearly full",
        "metric": rule.metric or AlertRule.Metric.DISK,
        "threshold": rule.threshold if rule.pk else 90,
        "for_seconds": rule.for_seconds,
    }


def _mute(rule: AlertRule, request: HttpRequest) -> str:
    hours = request.POST.get("hours", "")
    if hours not in {str(known) for known in MUTE_HOURS}:
        alerts.mute(rule, None)
        return f"“{rule.name}” is not muted any more."
    alerts.mute(rule, timezone.now() + timedelta(hours=int(hours)))
    return f"“{rule.name}” is muted for {hours} h: no message, no action, no count."


def _test(rule: AlertRule, request: HttpRequest) -> str:
    send_test(rule)
    return "A test message is on its way; the page of the rule says whether it arrived."


def _delete(rule: AlertRule, request: HttpRequest) -> str:
    name = rule.name
    delete_rule(rule)
    return f"The rule “{name}” is gone; what it told stays in the history."


VERBS = {"mute": (_mute, OPERATOR), "test": (_test, ADMIN), "delete": (_delete, ADMIN)}


def act(request: HttpRequest, rule_id: int, verb: str) -> HttpResponse:
    call, role = VERBS[verb]

    @page("POST", role=role)
    def guarded(request: HttpRequest) -> HttpResponse:
        messages.success(request, call(_find(rule_id), request))
        return redirect("/system/alerts/" if verb == "mute" else "/system/alerts/?tab=rules")

    return guarded(request)
