"""Models in Django's admin: facts to read; services delete them, because they know the files."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from mlserver.lib.facts import FactsAdmin, person
from models_registry.models import ModelAlias, ModelVersion, RegisteredModel
from models_registry.removal import delete_model, delete_version


@admin.register(RegisteredModel)
class RegisteredModelAdmin(FactsAdmin):
    list_display = ["name", "owner", "last_number", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "description", "owner__username"]
    actions = ["throw_away"]

    @admin.action(description="Delete with all versions", permissions=["view"])
    def throw_away(self, request: HttpRequest, rows: QuerySet[RegisteredModel]) -> None:
        self.do_each(request, rows, lambda row: delete_model(row, person(request)), "Deleted")


@admin.register(ModelVersion)
class ModelVersionAdmin(FactsAdmin):
    list_display = ["__str__", "task", "framework", "size_bytes", "source_session", "created_at"]
    list_filter = ["task", "framework", "created_at"]
    list_select_related = ["model"]
    search_fields = ["model__name", "source_session"]
    date_hierarchy = "created_at"
    actions = ["throw_away"]

    @admin.action(description="Delete the versions", permissions=["view"])
    def throw_away(self, request: HttpRequest, rows: QuerySet[ModelVersion]) -> None:
        self.do_each(request, rows, lambda row: delete_version(row, person(request)), "Deleted")


@admin.register(ModelAlias)
class ModelAliasAdmin(FactsAdmin):
    list_display = ["model", "name", "version"]
    list_select_related = ["model", "version__model"]
    search_fields = ["model__name", "name"]
