"""What this server accepts and how it is set: recipes, limits; for admins the settings.

The settings are named one by one, so that a new secret is not told by accident.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User

from ml.config import describe
from mlserver.api.permissions import ADMIN, has_role
from mlserver.version import VERSION

TOLD = (
    "VAR_DIR",
    "DATASETS_DIR",
    "MODELS_DIR",
    "RUNS_DIR",
    "API_HOST",
    "API_PORT",
    "ALLOWED_HOSTS",
    "ALLOW_ANONYMOUS",
    "CORS_ORIGINS",
    "CSRF_TRUSTED_ORIGINS",
    "DEBUG",
    "DEMO_MODELS",
    "LOG_LEVEL",
    "MAX_CONCURRENT_JOBS",
    "MAX_CONCURRENT_SESSIONS",
    "MAX_EVENT_STREAMS",
    "MAX_INFERENCE_MEMORY",
    "MAX_INFERENCE_REQUESTS",
    "MAX_INFERENCE_SIZE",
    "MAX_LOADED_MODELS",
    "MAX_UPLOAD_SIZE",
    "MODEL_MEMORY_MB",
    "RATE_LIMIT_ENABLED",
    "RATE_LIMIT_PERIOD",
    "RATE_LIMIT_REQUESTS",
    "TRUSTED_PROXIES",
)


def describe_config(user: User | AnonymousUser) -> dict[str, Any]:
    return {
        "version": VERSION,
        "recipes": describe(),
        "limits": {
            "max_upload_bytes": settings.MAX_UPLOAD_SIZE,
            "max_body_bytes": settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
            "max_concurrent_sessions": settings.MAX_CONCURRENT_SESSIONS or None,
            "max_concurrent_jobs": settings.MAX_CONCURRENT_JOBS,
            "max_event_streams": settings.MAX_EVENT_STREAMS,
            "rate_limit": _rate_limit(),
        },
        "settings": _settings() if has_role(user, ADMIN) else None,
    }


def _rate_limit() -> dict[str, int] | None:
    if not settings.RATE_LIMIT_ENABLED:
        return None
    return {
        "requests": settings.RATE_LIMIT_REQUESTS,
        "period_seconds": settings.RATE_LIMIT_PERIOD,
    }


def _settings() -> dict[str, Any]:
    found = {name: getattr(settings, name) for name in TOLD if hasattr(settings, name)}
    plain = {name: str(one) if isinstance(one, Path) else one for name, one in found.items()}
    # The address of the database holds its password.
    return {**plain, "DATABASE": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]}
