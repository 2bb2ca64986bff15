"""Who may open a page, and what a person sees when a service refuses."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from mlserver.api.permissions import VIEWER, has_role, role_of
from mlserver.lib.errors import AppError, Forbidden
from mlserver.lib.origin import note_person

Params = ParamSpec("Params")
View = Callable[Concatenate[HttpRequest, Params], HttpResponse]

TITLES = {403: "Not allowed", 404: "Not found", 409: "Not possible now", 413: "Too large"}


class Person(HttpRequest):
    """A request behind `page`: somebody is signed in."""

    user: User


def page(
    *methods: str, role: str = VIEWER
) -> Callable[[View[Params]], Callable[Concatenate[HttpRequest, Params], HttpResponse]]:
    """A view for people who are signed in with at least `role`; AppErrors become a page."""

    def decorate(view: View[Params]) -> View[Params]:
        @wraps(view)
        def guarded(
            request: HttpRequest, *args: Params.args, **kwargs: Params.kwargs
        ) -> HttpResponse:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not has_role(request.user, role):
                own = role_of(request.user)
                return refuse(request, Forbidden(f"This needs the role {role}; you have {own}."))
            note_person(request.user)
            try:
                return view(request, *args, **kwargs)
            except AppError as error:
                return refuse(request, error)

        allowed = list(methods) or ["GET", "HEAD"]
        return cast(View[Params], require_http_methods(allowed)(guarded))

    return decorate


def refuse(request: HttpRequest, error: AppError) -> HttpResponse:
    context = {"title": TITLES.get(error.status, "Not possible"), "detail": error.detail}
    return render(request, "error.html", context, status=error.status)


def person(request: HttpRequest) -> User:
    """The signed-in user; `page` has made sure that there is one."""
    assert isinstance(request.user, User)
    return request.user
