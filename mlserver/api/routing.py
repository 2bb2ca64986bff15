"""Routes that answer with and without the trailing slash.

No redirect from one to the other: it would lose the body of a POST.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.http.response import HttpResponseBase
from django.urls import URLPattern
from django.urls.resolvers import RoutePattern
from rest_framework.routers import SimpleRouter

View = Callable[..., HttpResponseBase] | Callable[..., Any]


class EitherPattern(RoutePattern):
    """Written with the slash (`reverse` gives that one); matches both."""

    def match(self, path: str) -> Any:
        return super().match(path) or super().match(path + "/")


def path_either(
    route: str, view: View, kwargs: Mapping[str, Any] | None = None, name: str | None = None
) -> URLPattern:
    """Like django.urls.path; the slash at the end of `route` may be written or not."""
    pattern = EitherPattern(f"{route.rstrip('/')}/", name=name, is_endpoint=True)
    return URLPattern(pattern, view, dict(kwargs or {}), name)


class SlashOptionalRouter(SimpleRouter):
    """DRF's router with both spellings; names in addresses may contain dots."""

    def __init__(self) -> None:
        super().__init__(trailing_slash=False)
        self.trailing_slash = "/?"

    def get_lookup_regex(self, viewset: Any, lookup_prefix: str = "") -> str:
        field = getattr(viewset, "lookup_field", "pk")
        name = getattr(viewset, "lookup_url_kwarg", None) or field
        value = getattr(viewset, "lookup_value_regex", "[^/]+")
        return f"(?P<{lookup_prefix}{name}>{value})"
