"""Keys, attempts and audit rows in Django's admin: facts to read, one action to revoke; people
and groups, whose changes are audited. Hashes stay hidden.

Keys are made where they can be shown once: by the API or `manage.py create_key`.
"""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import audit
from accounts.access import can_change
from accounts.models import ApiKey, AuditEntry, AuthLog
from accounts.services import revoke_key
from mlserver.lib.errors import Forbidden
from mlserver.lib.facts import FactsAdmin, person

HASHES = ("hash", "previous_hash", "api_key_hash")


class WithoutHashes(FactsAdmin):
    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [name for name in super().get_fields(request, obj) if name not in HASHES]


@admin.register(ApiKey)
class ApiKeyAdmin(WithoutHashes):
    list_display = ["name", "user", "prefix", "role", "created_at", "expires_at", "revoked_at"]
    list_filter = ["role", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["name", "prefix", "user__username"]
    actions = ["revoke"]

    @admin.action(description="Revoke, at once and for ever", permissions=["view"])
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        def revoke(key: ApiKey) -> None:
            if not can_change(person(request), key):
                raise Forbidden("It belongs to somebody else; its owner or an admin may.")
            revoke_key(key, person(request))

        self.do_each(request, rows, revoke, "Revoked")


@admin.register(AuthLog)
class AuthLogAdmin(WithoutHashes):
    list_display = ["timestamp", "success", "reason", "user", "prefix", "endpoint", "address"]
    list_filter = ["success", "reason", "timestamp"]
    list_select_related = ["user"]
    search_fields = ["endpoint", "prefix", "user__username"]


@admin.register(AuditEntry)
class AuditEntryAdmin(FactsAdmin):
    list_display = ["timestamp", "username", "action", "object_id", "how", "key_prefix", "address"]
    list_filter = ["action", "how", "timestamp"]
    search_fields = ["username", "object_id", "action", "request_id"]
    date_hierarchy = "timestamp"


class Audited(admin.ModelAdmin):  # type: ignore[type-arg]  # not a generic at run time
    """Django's own pages for people and groups; each change leaves an audit row."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        _record(request, "create", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        _record(request, "change", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for thing in queryset:
            _record(request, "delete", thing, None)
        return super().log_deletions(request, queryset)


def _record(request: HttpRequest, verb: str, thing: Any, message: Any) -> None:
    """Which fields were touched, and who somebody is now; never a password."""
    kind = thing._meta.model_name
    facts: dict[str, Any] = {"name": str(thing)}
    if isinstance(thing, User) and verb != "delete":
        facts |= {
            "is_active": thing.is_active,
            "is_superuser": thing.is_superuser,
            "groups": sorted(group.name for group in thing.groups.all()),
        }
    if isinstance(message, list):
        facts["fields"] = sorted(
            {name for part in message for name in part.get("changed", {}).get("fields", [])}
        )
    audit.record(person(request), f"{kind}.{verb}", thing.pk, after=facts)


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(Audited, UserAdmin):  # type: ignore[type-arg]
    pass


@admin.register(Group)
class RoleAdmin(Audited, GroupAdmin):
    pass
