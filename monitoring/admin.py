"""Readings, events and alerts in Django's admin: facts to read; rules are switched and muted."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from mlserver.lib.facts import FactsAdmin, person
from monitoring.alerts import acknowledge, mute
from monitoring.models import (
    Alert,
    AlertDelivery,
    AlertRule,
    ClusterHeartbeat,
    GpuSample,
    GpuUse,
    HardwareEvent,
    HistoryBucket,
    HostSample,
    ProcessTable,
)


@admin.register(HostSample)
class HostSampleAdmin(FactsAdmin):
    list_display = [
        "timestamp",
        "host",
        "cpu_percent",
        "load_1m",
        "memory_used_bytes",
        "disk_free_bytes",
        "gpu_count",
    ]
    list_filter = ["host"]
    date_hierarchy = "timestamp"


@admin.register(GpuSample)
class GpuSampleAdmin(FactsAdmin):
    list_display = [
        "host_sample",
        "index",
        "name",
        "busy_percent",
        "memory_used_bytes",
        "temperature_celsius",
        "power_watts",
    ]
    list_filter = ["name"]
    list_select_related = ["host_sample"]


@admin.register(GpuUse)
class GpuUseAdmin(FactsAdmin):
    list_display = ["uuid", "hour", "session", "seconds", "joules"]
    list_filter = ["uuid"]
    search_fields = ["session"]
    date_hierarchy = "hour"


@admin.register(HistoryBucket)
class HistoryBucketAdmin(FactsAdmin):
    list_display = ["host", "device", "width", "start", "count"]
    list_filter = ["host", "width"]
    search_fields = ["device"]


@admin.register(ProcessTable)
class ProcessTableAdmin(FactsAdmin):
    list_display = ["host", "timestamp", "how_many"]

    @admin.display(description="Processes")
    def how_many(self, table: ProcessTable) -> int:
        return len(table.processes)


@admin.register(HardwareEvent)
class HardwareEventAdmin(FactsAdmin):
    list_display = ["timestamp", "host", "uuid", "kind", "code", "message"]
    list_filter = ["kind", "host"]
    search_fields = ["uuid", "message"]
    date_hierarchy = "timestamp"


@admin.register(ClusterHeartbeat)
class ClusterHeartbeatAdmin(FactsAdmin):
    list_display = ["cluster", "host", "seen_at"]


@admin.register(AlertRule)
class AlertRuleAdmin(FactsAdmin):
    list_display = ["name", "metric", "threshold", "severity", "is_enabled", "muted_until"]
    list_filter = ["is_enabled", "severity", "metric"]
    search_fields = ["name"]
    actions = ["mute_for_an_hour", "unmute"]

    @admin.action(description="Mute for an hour", permissions=["view"])
    def mute_for_an_hour(self, request: HttpRequest, rows: QuerySet[AlertRule]) -> None:
        until = timezone.now() + timedelta(hours=1)
        self.do_each(request, rows, lambda rule: mute(rule, until), "Muted")

    @admin.action(description="Unmute", permissions=["view"])
    def unmute(self, request: HttpRequest, rows: QuerySet[AlertRule]) -> None:
        self.do_each(request, rows, lambda rule: mute(rule, None), "Unmuted")


@admin.register(Alert)
class AlertAdmin(FactsAdmin):
    list_display = ["name", "state", "severity", "host", "subject", "value", "opened_at"]
    list_filter = ["state", "severity", "name"]
    search_fields = ["name", "subject", "message"]
    date_hierarchy = "since"
    actions = ["acknowledge"]

    @admin.action(description="Acknowledge", permissions=["view"])
    def acknowledge(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        def acknowledge_one(alert: Alert) -> Any:
            return acknowledge(alert, person(request).username)

        self.do_each(request, rows, acknowledge_one, "Acknowledged")


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(FactsAdmin):
    list_display = ["message_id", "rule", "status", "attempts", "next_at", "error"]
    list_filter = ["status"]
    list_select_related = ["rule"]
