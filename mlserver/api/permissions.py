"""Roles. A request counts as the lower of its user's role and, if it came by a key, the key's."""

from typing import TYPE_CHECKING, Any, Protocol

from django.db.models import prefetch_related_objects
from rest_framework.permissions import SAFE_METHODS, BasePermission

from mlserver.api.areas import areas_of
from mlserver.lib.origin import note_person

if TYPE_CHECKING:
    # DRF's views load this module by the settings: importing them here would be a circle.
    from rest_framework.request import Request
    from rest_framework.views import APIView

VIEWER, OPERATOR, ADMIN = ROLES = ("viewer", "operator", "admin")


class HasRole(Protocol):
    """An API key, which this package must not know by name."""

    @property
    def role(self) -> str: ...

    @property
    def scopes(self) -> list[str]: ...


def rank(role: str) -> int:
    return ROLES.index(role)


def role_of(user: Any, key: HasRole | None = None) -> str:
    """`viewer`, `operator` or `admin`. Authentication notes the key on the user (`act_by_key`),
    so services that are given only the user decide by the same role."""
    key = key or getattr(user, "acting_key", None)
    own = _role_of_user(user)
    return own if key is None else min(own, key.role, key=rank)


def has_role(user: Any, role: str) -> bool:
    return bool(user.is_authenticated and user.is_active) and rank(role_of(user)) >= rank(role)


def act_by_key(user: Any, key: HasRole) -> None:
    """From now on this instance has at most the key's role."""
    user.acting_key = key


def may_change(user: Any, owner_id: int | None) -> bool:
    """The rule of the house: the owner changes what is theirs, an admin everything."""
    if has_role(user, ADMIN):
        return True
    return has_role(user, OPERATOR) and owner_id is not None and owner_id == user.pk


class RolePermission(BasePermission):
    """Reads need `view.read_role` (viewer), everything else `view.write_role` (operator)."""

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        return self._require(request, self.needed(request, view))

    def needed(self, request: "Request", view: "APIView") -> str:
        if request.method in SAFE_METHODS:
            return getattr(view, "read_role", VIEWER)
        return getattr(view, "write_role", OPERATOR)

    def _require(self, request: "Request", role: str) -> bool:
        if not request.user.is_authenticated:
            return False
        if missing := missing_areas(request.user, request.path):
            self.message = f"This key is only for {_scopes(request.user)}, not for {missing}."
            return False
        self.message = f"This needs the role {role}; you have {role_of(request.user)}."
        note_person(request.user)
        return has_role(request.user, role)


class IsViewer(RolePermission):
    def needed(self, request: "Request", view: "APIView") -> str:
        return VIEWER


class IsOperator(RolePermission):
    def needed(self, request: "Request", view: "APIView") -> str:
        return OPERATOR


class IsAdmin(RolePermission):
    def needed(self, request: "Request", view: "APIView") -> str:
        return ADMIN


def missing_areas(user: Any, path: str) -> str:
    """What the address needs and the key, if there is one with scopes, does not have."""
    key = getattr(user, "acting_key", None)
    if key is None or not key.scopes:
        return ""
    return ", ".join(area for area in areas_of(path) if area not in key.scopes)


def _scopes(user: Any) -> str:
    return ", ".join(user.acting_key.scopes)


def _role_of_user(user: Any) -> str:
    if user.is_superuser:
        return ADMIN
    prefetch_related_objects([user], "groups")  # once per instance, however often it is asked
    names = {group.name for group in user.groups.all()}
    return max((role for role in ROLES if role in names), key=rank, default=OPERATOR)
