"""The doors of `accounts`: REST under /api/v1/, pages at the root."""

from django.urls import URLPattern, URLResolver

from accounts import views
from accounts.api import (
    AttemptViewSet,
    AuditViewSet,
    KeyViewSet,
    MeView,
    RefreshView,
    SignInView,
    VerifyView,
)
from mlserver.api.routing import SlashOptionalRouter, path_either

router = SlashOptionalRouter()
router.register("auth/keys", KeyViewSet, basename="key")
router.register("auth/logs", AttemptViewSet, basename="attempt")
router.register("audit", AuditViewSet, basename="audit")

api_patterns: list[URLPattern | URLResolver] = [
    path_either("me", MeView.as_view(), name="me"),
    path_either("auth/token", SignInView.as_view(), name="token"),
    path_either("auth/token/refresh", RefreshView.as_view(), name="token-refresh"),
    path_either("auth/token/verify", VerifyView.as_view(), name="token-verify"),
    *router.urls,
]
page_patterns: list[URLPattern | URLResolver] = [
    path_either("login/", views.sign_in, name="sign-in"),
    path_either("logout/", views.sign_out, name="sign-out"),
    path_either("settings/keys", views.keys_page, name="keys-page"),
    path_either("settings/keys/create", views.create, name="key-create"),
    path_either("settings/keys/<int:number>/rotate", views.rotate, name="key-rotate"),
    path_either("settings/keys/<int:number>/revoke", views.revoke, name="key-revoke"),
    path_either("settings/log", views.log_page, name="auth-log-page"),
    path_either("audit", views.audit_page, name="audit-page"),
]
