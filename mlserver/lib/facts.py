"""Django's admin for rows that are facts: to look at, to filter; services alone change them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

from mlserver.lib.errors import AppError

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
    Pages = Paginator[Any]
else:
    Base, Pages = admin.ModelAdmin, Paginator  # not generics at run time

MOST_COUNTED = 10_000


class CappedPaginator(Pages):
    """Counts no further than anybody leafs: a table may have millions of points."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:MOST_COUNTED].count())


def person(request: HttpRequest) -> User:
    """Who sits at the admin: never anonymous there."""
    return cast(User, request.user)


class FactsAdmin(Base):
    """Nothing is added, changed or deleted here."""

    show_full_result_count = False
    paginator = CappedPaginator
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [field.name for field in self.opts.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)

    def do_each(
        self, request: HttpRequest, rows: Any, service: Callable[[Any], Any], done: str
    ) -> None:
        """Call a service for each row; a refusal is told and does not stop the others."""
        succeeded = 0
        for row in rows:
            name = str(row)  # a deleted row may not know its name any more
            try:
                service(row)
            except AppError as error:
                self.message_user(request, f"{name}: {error.detail}", messages.ERROR)
            else:
                succeeded += 1
        if succeeded:
            self.message_user(request, f"{done}: {succeeded}.")
