"""Lists in pages: which rows, and links to the other ones that keep the filters."""

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

PAGE_SIZE = 50


@dataclass(frozen=True)
class Listing:
    """One page of rows; `previous` and `next` are query strings or None."""

    page: Page[Any]
    previous: str | None
    next: str | None

    @property
    def total(self) -> int:
        return self.page.paginator.count


def list_rows(request: HttpRequest, rows: QuerySet[Any], size: int = PAGE_SIZE) -> Listing:
    """The page that `?page=` names; a number beyond the end, or none at all, finds the nearest."""
    page = Paginator(rows, size).get_page(request.GET.get("page"))
    return Listing(
        page=page,
        previous=_query(request, page.number - 1) if page.has_previous() else None,
        next=_query(request, page.number + 1) if page.has_next() else None,
    )


def _query(request: HttpRequest, number: int) -> str:
    query = request.GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"
