"""Models in memory in Django's admin: facts to read; the service unloads them."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from inference.models import LoadedModel
from inference.services import unload_model
from mlserver.lib.facts import FactsAdmin, person


@admin.register(LoadedModel)
class LoadedModelAdmin(FactsAdmin):
    list_display = ["__str__", "state", "device", "memory_bytes", "is_pinned", "last_used_at"]
    list_filter = ["state", "device"]
    list_select_related = ["version__model"]
    search_fields = ["version__model__name"]
    actions = ["unload"]

    @admin.action(description="Unload", permissions=["view"])
    def unload(self, request: HttpRequest, rows: QuerySet[LoadedModel]) -> None:
        self.do_each(request, rows, lambda row: unload_model(str(row), person(request)), "Unloaded")
