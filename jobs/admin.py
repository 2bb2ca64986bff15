"""Jobs, their log, their webhooks and the messages of the queue in Django's admin: facts to
read, one action to cancel."""

from typing import Any

import django_q.admin  # noqa: F401  (registers the pages that are replaced below)
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django_q.models import Failure, OrmQ, Schedule, Success

from jobs.access import can_change
from jobs.models import Job, LogLine, QueueHold, WebhookDelivery
from jobs.services import cancel_job
from mlserver.lib.errors import Forbidden
from mlserver.lib.facts import FactsAdmin, person


@admin.register(Job)
class JobAdmin(FactsAdmin):
    list_display = ["id", "kind", "state", "phase", "progress", "owner", "priority", "created_at"]
    list_filter = ["kind", "state", "error_code", "host"]
    list_select_related = ["owner"]
    search_fields = ["id", "owner__username", "error"]
    date_hierarchy = "created_at"
    actions = ["cancel"]

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        def cancel(job: Job) -> None:
            if not can_change(person(request), job):
                raise Forbidden("It belongs to somebody else; its owner or an admin may.")
            cancel_job(job)

        self.do_each(request, rows, cancel, "Cancelled")


@admin.register(LogLine)
class LogLineAdmin(FactsAdmin):
    list_display = ["timestamp", "job", "level", "message"]
    list_filter = ["level"]
    list_select_related = ["job"]
    search_fields = ["job__id", "message"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(FactsAdmin):
    list_display = ["job", "event", "status", "attempts", "next_at"]
    list_filter = ["status", "event"]
    list_select_related = ["job"]
    search_fields = ["job__id"]


@admin.register(QueueHold)
class QueueHoldAdmin(FactsAdmin):
    list_display = ["kind", "by", "reason", "created_at"]
    list_filter = ["kind"]


# django-q's own pages unpickle what they show and let it be edited.
admin.site.unregister([Success, Failure, OrmQ, Schedule])


class WithoutPickles(FactsAdmin):
    """A column that holds a pickle is neither fetched nor shown."""

    hidden: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer(*self.hidden)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [name for name in super().get_fields(request, obj) if name not in self.hidden]


@admin.register(Success, Failure)
class TaskAdmin(WithoutPickles):
    hidden = ("args", "kwargs", "result")
    list_display = ["name", "func", "cluster", "started", "stopped", "attempt_count"]
    list_filter = ["func", "cluster"]
    search_fields = ["name", "func"]


@admin.register(OrmQ)
class MessageAdmin(WithoutPickles):
    hidden = ("payload",)
    list_display = ["id", "key", "lock"]
    list_filter = ["key"]


@admin.register(Schedule)
class ScheduleAdmin(FactsAdmin):
    list_display = ["name", "func", "schedule_type", "cluster", "next_run"]
    search_fields = ["name", "func"]
