"""Datasets in Django's admin: facts to read; services delete them, because they know the files."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from datasets.models import Dataset, DatasetVersion
from datasets.removal import delete_dataset
from mlserver.lib.facts import FactsAdmin, person


@admin.register(Dataset)
class DatasetAdmin(FactsAdmin):
    list_display = ["name", "owner", "is_builtin", "created_at"]
    list_filter = ["is_builtin", "created_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "description", "owner__username"]
    actions = ["throw_away"]

    @admin.action(description="Delete with all versions", permissions=["view"])
    def throw_away(self, request: HttpRequest, rows: QuerySet[Dataset]) -> None:
        self.do_each(request, rows, lambda row: delete_dataset(row, person(request)), "Deleted")


@admin.register(DatasetVersion)
class DatasetVersionAdmin(FactsAdmin):
    list_display = ["__str__", "kind", "format", "sample_count", "size_bytes", "created_at"]
    list_filter = ["kind", "format", "created_at"]
    list_select_related = ["dataset"]
    search_fields = ["dataset__name", "original_filename", "sha256"]
    date_hierarchy = "created_at"
