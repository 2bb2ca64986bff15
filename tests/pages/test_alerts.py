"""The pages of alerts and of their rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from mlserver.lib.webhooks import signing_secret
from monitoring.models import Alert, AlertDelivery, AlertRule
from tests.pages.conftest import Visit
from tests.pages.looks import DESK, HOSTILE, PHONE, is_live, overflow, violations
from tests.pages.machine_scene import alert

pytestmark = pytest.mark.django_db
Open = Callable[..., Visit]

FORM = {
    "name": "Too warm",
    "metric": "gpu.temperature_celsius",
    "comparison": "above",
    "threshold": "80",
    "clear_threshold": "75",
    "for_seconds": "30",
    "severity": "warning",
    "action": "pause_queue",
    "target": "page",
    "webhook_url": "",
    "is_enabled": "on",
}


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text(user: User, path: str) -> str:
    answer = client_of(user).get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())


def post(user: User, path: str, **form: Any) -> Any:
    return client_of(user).post(path, form)


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.Spooled:ResourceWarning")
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_pages_are_without_complaint(visit: Open, admin: User, size: dict[str, int]) -> None:
    rule = alert(message=HOSTILE).rule
    assert rule is not None
    window = visit(admin, viewport=size, color_scheme="dark")
    for path in (
        "/system/alerts/",
        "/system/alerts/?tab=rules",
        "/system/alerts/?tab=history",
        f"/system/alerts/rules/{rule.pk}/",
    ):
        page = window.open(path)
        is_live(page)
        assert overflow(page) <= 0, path
        assert violations(page) == [], path
    assert page.title() != "owned"
    assert window.complaints == []


def test_an_open_alert_has_its_text_and_what_may_be_done(owner: User, stranger: User) -> None:
    alert()
    page = text(owner, "/system/alerts/")
    assert "GPU temperature 93 °C, at least 92 °C for 1 min." in page
    assert "Acknowledge" in page
    assert "Acknowledge" not in text(stranger, "/system/alerts/")


def test_whoever_acknowledges_is_named_and_the_count_goes(owner: User, stranger: User) -> None:
    row = alert()
    assert "1<span" in text(owner, "/system/")
    assert post(stranger, f"/system/alerts/{row.pk}/acknowledge/").status_code == 403
    assert post(owner, f"/system/alerts/{row.pk}/acknowledge/").status_code == 302
    assert "owner looks after it" in text(stranger, "/system/alerts/")
    assert "count alert" not in text(owner, "/system/")
    assert post(owner, "/system/alerts/999/acknowledge/").status_code == 404


def test_muting_ends_by_itself_or_by_hand(owner: User) -> None:
    rule = alert().rule
    assert rule is not None
    post(owner, f"/system/alerts/rules/{rule.pk}/mute/", hours="8")
    rule.refresh_from_db()
    assert rule.muted_until is not None
    assert timedelta(hours=7) < rule.muted_until - timezone.now() <= timedelta(hours=8)
    assert "· muted" in text(owner, "/system/alerts/")
    post(owner, f"/system/alerts/rules/{rule.pk}/mute/", hours="0")
    rule.refresh_from_db()
    assert rule.muted_until is None


def test_the_rules_that_every_machine_begins_with_are_listed(stranger: User) -> None:
    page = text(stranger, "/system/alerts/?tab=rules")
    for words in (
        "GPU too hot",
        "at least 92 °C for 1 min",
        "below 89 °C",
        "less than 5 % for 15 min",
        "Sampler silent",
    ):
        assert words in page
    assert "New rule" not in page


def test_an_admin_makes_changes_and_removes_a_rule(admin: User) -> None:
    assert post(admin, "/system/alerts/rules/new/", **FORM).status_code == 302
    rule = AlertRule.objects.get(name="Too warm")
    assert (rule.threshold, rule.clear_threshold, rule.action) == (80, 75, "pause_queue")
    path = f"/system/alerts/rules/{rule.pk}/"
    changed = {**FORM, "threshold": "81", "clear_threshold": "", "is_enabled": ""}
    assert post(admin, path, **changed).status_code == 302
    rule.refresh_from_db()
    assert (rule.threshold, rule.clear_threshold, rule.is_enabled) == (81, None, False)
    assert post(admin, f"{path}delete/").status_code == 302
    assert not AlertRule.objects.filter(pk=rule.pk).exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", " ", "name must have 1 to 100 characters"),
        ("name", "GPU hot", "There is a rule called"),
        ("metric", "weather", "metric must be one of"),
        ("threshold", "hot", "threshold must be a finite number"),
        ("threshold", "", "threshold must be a finite number"),
        ("threshold", "1e999", "threshold must be a finite number"),
        ("clear_threshold", "90", "clear_threshold must be at most the threshold (80)"),
        ("for_seconds", "-1", "for_seconds must be between 0 and"),
        ("for_seconds", "long", "for_seconds must be between 0 and"),
        ("target", "webhook", "The URL must"),
    ],
)
def test_a_wrong_value_is_told_under_its_field(
    admin: User, field: str, value: str, sentence: str
) -> None:
    answer = post(admin, "/system/alerts/rules/new/", **{**FORM, field: value})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page
    assert not AlertRule.objects.filter(name="Too warm").exists()


def test_only_admins_change_rules(owner: User, stranger: User) -> None:
    rule = AlertRule.objects.earliest("id")
    for path in ("new/", f"{rule.pk}/", f"{rule.pk}/delete/", f"{rule.pk}/test/"):
        assert post(owner, f"/system/alerts/rules/{path}", **FORM).status_code == 403, path
    assert post(stranger, f"/system/alerts/rules/{rule.pk}/mute/", hours="1").status_code == 403


def test_the_secret_of_a_webhook_is_for_admins_alone(admin: User, owner: User) -> None:
    url = "https://hooks.example/x"
    form = {**FORM, "target": "webhook", "webhook_url": url}
    post(admin, "/system/alerts/rules/new/", **form)
    rule = AlertRule.objects.get(name="Too warm")
    page = text(admin, f"/system/alerts/rules/{rule.pk}/")
    assert signing_secret(url) in page.replace("&#x27;", "'").replace("&amp;", "&")
    api = f"/api/v1/system/alert-rules/{rule.pk}"
    assert client_of(admin).get(api).json()["signing_secret"] == signing_secret(url)
    assert client_of(owner).get(api).json()["signing_secret"] is None


def test_a_test_message_goes_into_the_outbox(admin: User) -> None:
    form = {**FORM, "target": "webhook", "webhook_url": "https://hooks.example/x"}
    post(admin, "/system/alerts/rules/new/", **form)
    rule = AlertRule.objects.get(name="Too warm")
    post(admin, f"/system/alerts/rules/{rule.pk}/test/")
    assert AlertDelivery.objects.get().payload["event"] == "alert.test"
    assert "alert.test" in text(admin, f"/system/alerts/rules/{rule.pk}/")


# --- REST -------------------------------------------------------------------------------------


def send(user: User, method: str, path: str, body: Any = None) -> Any:
    call = getattr(client_of(user), method)
    return call(f"/api/v1/system/{path}", body, content_type="application/json")


def test_alerts_are_listed_and_acknowledged_over_rest(owner: User, stranger: User) -> None:
    row = alert()
    alert(
        AlertRule.objects.create(name="later", metric="disk_percent", threshold=1),
        state=Alert.State.PENDING,
    )
    [one] = send(stranger, "get", "alerts/").json()["results"]
    assert (one["id"], one["severity"], one["state"]) == (row.pk, "critical", "open")
    assert send(stranger, "get", "alerts?state=closed").json()["total"] == 0
    assert send(stranger, "post", f"alerts/{row.pk}/acknowledge").status_code == 403
    answer = send(owner, "post", f"alerts/{row.pk}/acknowledge")
    assert answer.json()["acknowledged_by"] == "owner"


def test_rules_are_made_changed_muted_and_removed_over_rest(admin: User, owner: User) -> None:
    body = {"name": "full", "metric": "disk_percent", "threshold": 95, "clear_threshold": 92}
    assert send(owner, "post", "alert-rules/", body).status_code == 403
    made = send(admin, "post", "alert-rules/", body)
    assert (made.status_code, made.json()["for_seconds"]) == (201, 60)
    path = f"alert-rules/{made.json()['id']}"
    assert send(admin, "post", "alert-rules/", body).status_code == 409
    assert send(admin, "patch", path, {"clear_threshold": 99}).status_code == 422
    assert send(admin, "patch", path, {"is_enabled": False}).json()["is_enabled"] is False
    muted = send(owner, "post", f"{path}/mute", {"until": "2099-01-01T00:00:00Z"})
    assert muted.json()["muted_until"] == "2099-01-01T00:00:00Z"
    assert send(admin, "post", f"{path}/test").status_code == 409
    assert send(owner, "get", f"{path}/deliveries").json() == {"results": []}
    assert send(owner, "delete", path).status_code == 403
    assert send(admin, "delete", path).status_code == 204
