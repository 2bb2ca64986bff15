"""Signing in and out, one's keys, the log of attempts, the audit: pages over the services.

Signing in and out are Django's own doors; its signals write the AuthLog.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.views import LoginView, LogoutView
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from accounts import access, services
from accounts.models import ApiKey, AuditEntry, Role
from mlserver.api.areas import AREAS
from mlserver.api.permissions import ADMIN, OPERATOR, ROLES, has_role, rank, role_of
from mlserver.lib.errors import AppError, Forbidden, Invalid, NotFound
from mlserver.pages.commands import curl
from mlserver.pages.doors import page, person
from mlserver.pages.paging import list_rows

OVERLAPS = ((0, "at once"), (3600, "in an hour"), (86400, "in a day"), (604800, "in a week"))

sign_in = LoginView.as_view(template_name="accounts/login.html", redirect_authenticated_user=True)
sign_out = LogoutView.as_view()  # POST only


# --- Keys -------------------------------------------------------------------------------


@page()
def keys_page(request: HttpRequest) -> HttpResponse:
    return _keys(request)


@page("POST", role=OPERATOR)
def create(request: HttpRequest) -> HttpResponse:
    days = request.POST.get("days", "")
    try:
        key, raw = services.create_key(
            user=person(request),
            name=request.POST.get("name", ""),
            role=request.POST.get("role", Role.OPERATOR),
            expires_at=_in_days(days),
            scopes=request.POST.getlist("scopes"),
            allowed_networks=request.POST.get("networks", "").replace(",", " ").split(),
        )
    except AppError as error:
        return _keys(request, error=error)
    return _show_once(request, key, raw)


@page("POST", role=OPERATOR)
def rotate(request: HttpRequest, number: int) -> HttpResponse:
    key = _find(request, number)
    if not access.can_rotate(person(request), key):
        raise Forbidden("Only its owner gives a key a new secret; an admin may revoke it.")
    overlap = request.POST.get("overlap", "0")
    seconds = int(overlap) if overlap.isdecimal() and len(overlap) < 10 else 0
    return _show_once(
        request, *services.rotate_key(key, by=person(request), overlap_seconds=seconds)
    )


@page("POST", role=OPERATOR)
def revoke(request: HttpRequest, number: int) -> HttpResponse:
    key = _find(request, number)
    if not access.can_change(person(request), key):
        raise Forbidden("This key belongs to somebody else; its owner or an admin may.")
    services.revoke_key(key, person(request))
    messages.success(request, f"The key '{key.name}' opens nothing any more.")
    return redirect("keys-page")


def _keys(request: HttpRequest, error: AppError | None = None) -> HttpResponse:
    who = person(request)
    own = role_of(who)
    context = {
        "listing": list_rows(request, access.visible_keys(who)),
        "is_admin": has_role(who, ADMIN),
        "roles": [role for role in ROLES if rank(role) <= rank(own)],
        "areas": AREAS,
        "overlaps": OVERLAPS,
        "typed": request.POST,
        "typed_scopes": request.POST.getlist("scopes"),
        "error": error,
        "command": curl(request, "/api/v1/auth/keys/", {"name": "notebook", "role": "operator"}),
    }
    return render(request, "accounts/keys.html", context, status=error.status if error else 200)


def _show_once(request: HttpRequest, key: ApiKey, raw: str) -> HttpResponse:
    """No redirect: the key is in this answer and nowhere else."""
    answer = render(request, "accounts/key.html", {"key": key, "raw": raw})
    add_never_cache_headers(answer)
    return answer


def _find(request: HttpRequest, number: int) -> ApiKey:
    key = access.visible_keys(person(request)).filter(pk=number).first()
    if key is None:
        raise NotFound("There is no such key.")
    return key


def _in_days(text: str) -> Any:
    if not text.strip():
        return None
    if not text.isdecimal() or not 1 <= len(text) <= 5:
        raise Invalid(f"Days must be a whole number, got {text[:20]!r}.")
    return timezone.now() + timedelta(days=int(text))


# --- What happened ----------------------------------------------------------------------


@page()
def log_page(request: HttpRequest) -> HttpResponse:
    rows = access.visible_attempts(person(request))
    search = request.GET.get("q", "").strip()
    outcome = request.GET.get("outcome", "")
    if search:
        rows = rows.filter(
            Q(endpoint__icontains=search)
            | Q(user__username__icontains=search)
            | Q(prefix__icontains=search)
            | Q(reason__icontains=search)
        )
    if outcome in ("accepted", "refused"):
        rows = rows.filter(success=outcome == "accepted")
    context = {
        "listing": list_rows(request, rows),
        "search": search,
        "outcome": outcome,
        "is_admin": has_role(person(request), ADMIN),
        "command": curl(request, "/api/v1/auth/logs/?success=false"),
    }
    return render(request, "accounts/log.html", context)


@page()
def audit_page(request: HttpRequest) -> HttpResponse:
    search = request.GET.get("q", "").strip()
    kind = request.GET.get("type", "")
    rows = access.visible_entries(person(request))
    kinds = rows.order_by("object_type").values_list("object_type", flat=True).distinct()
    context = {
        "listing": list_rows(request, _matching(rows, search, kind)),
        "search": search,
        "kind": kind,
        "kinds": kinds,
        "command": curl(request, "/api/v1/audit/?limit=20", options="-H 'Accept: text/csv'"),
    }
    return render(request, "accounts/audit.html", context)


def _matching(rows: QuerySet[AuditEntry], search: str, kind: str) -> QuerySet[AuditEntry]:
    if kind:
        rows = rows.filter(object_type=kind)
    for word in search.split()[:10]:
        rows = rows.filter(
            Q(object_id__icontains=word) | Q(username__icontains=word) | Q(action__icontains=word)
        )
    return rows
