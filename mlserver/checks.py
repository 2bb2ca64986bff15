"""System checks with stable ids: what would go wrong later is said at the start.

E: the server must not run like this. W: it can, but somebody should know (`check --deploy`).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from ml import failpoints

DIRECTORIES = ("VAR_DIR", "DATASETS_DIR", "MODELS_DIR", "RUNS_DIR", "TRASH_DIR")
SHORTEST_SECRET = 32
SQLITE_PRAGMAS = ("journal_mode=WAL", "foreign_keys=ON")


@register(Tags.files)
def check_directories(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [message for name in DIRECTORIES for message in _directory_messages(name)]


def _directory_messages(name: str) -> Iterator[CheckMessage]:
    folder = Path(getattr(settings, name))
    if package := _surrounding_package(folder):
        yield Error(
            f"{name} ({folder}) lies inside the code of '{package}'.",
            hint=f"Uploaded data must never be importable: point {name} to a folder under var/.",
            id="mlserver.E001",
        )
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)):
        yield Error(
            f"{name} ({folder}) is not a folder that this process can read and write.",
            hint=f"Create it and give it to the user that runs the server, or set {name}.",
            id="mlserver.E002",
        )


def _surrounding_package(folder: Path) -> str | None:
    for config in apps.get_app_configs():
        if folder.resolve().is_relative_to(Path(config.path).resolve()):
            return config.name
    return None


@register(Tags.security)
def check_secret_key(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    key = settings.SECRET_KEY
    if len(key) >= SHORTEST_SECRET and len(set(key)) >= 5:
        return []
    return [
        Error(
            f"SECRET_KEY is weak: {len(key)} characters, {len(set(key))} different ones.",
            hint="Whoever guesses it can sign in as anyone. Make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(50))'`.",
            id="mlserver.E003",
        )
    ]


@register(Tags.database)
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    database = settings.DATABASES["default"]
    if not database["ENGINE"].endswith("sqlite3"):
        return []
    options = database.get("OPTIONS", {})
    missing = [pragma for pragma in SQLITE_PRAGMAS if pragma not in options.get("init_command", "")]
    if options.get("transaction_mode") != "IMMEDIATE":
        missing.append("transaction_mode=IMMEDIATE")
    if options.get("timeout", 0) < 5:
        missing.append("timeout of at least 5 seconds")
    if not missing:
        return []
    return [
        Error(
            f"SQLite is not set up for several writers: {', '.join(missing)} missing.",
            hint="Without these, writes fail with 'database is locked'. Keep DATABASES['default']"
            "['OPTIONS'] as mlserver/settings.py has it.",
            id="mlserver.E004",
        )
    ]


@register(Tags.security, deploy=True)
def check_failpoints(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    if os.environ.get(failpoints.SWITCH) != "1":
        return []
    return [
        Warning(
            f"{failpoints.SWITCH}=1: faults that {failpoints.PLAN} plants end trainings.",
            hint=f"Only tests set it; take {failpoints.SWITCH} out of the environment.",
            id="mlserver.W002",
        )
    ]


@register(Tags.security, deploy=True)
def check_public_url(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    plain = [url for url in settings.CSRF_TRUSTED_ORIGINS if not url.startswith("https://")]
    return [
        Warning(
            f"PUBLIC_URL {url} is not https: keys and passwords travel in clear text.",
            hint="Put a proxy with TLS in front and name its https address in PUBLIC_URL.",
            id="mlserver.W001",
        )
        for url in plain
    ]
