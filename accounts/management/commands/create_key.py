"""`manage.py create_key --user ann --name laptop`: make an API key and print it, once."""

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import ApiKey, Role
from accounts.services import create_key
from mlserver.api.permissions import role_of
from mlserver.lib.errors import AppError

NOT_FOUND = 4  # exit codes: 0 ok, 1 failed, 2 usage, 3 auth, 4 not found


class Command(BaseCommand):
    help = "Make an API key. It is printed once; the server keeps only its hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="whose key it is")
        parser.add_argument("--name", required=True, help="what it is for, such as 'laptop'")
        parser.add_argument("--role", choices=Role.values, help="default: the user's own role")
        parser.add_argument("--expires-days", type=int, help="default: until it is revoked")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        user = _find_user(options["user"])
        days = options["expires_days"]
        try:
            expires_at = None if days is None else timezone.now() + timedelta(days=days)
            key, raw = create_key(
                user=user,
                name=options["name"],
                role=options["role"] or role_of(user),
                expires_at=expires_at,
            )
        except OverflowError:
            raise CommandError(f"--expires-days {days} is beyond the calendar.") from None
        except AppError as error:
            raise CommandError(error.detail) from error
        self.stdout.write(_as_json(key, raw) if options["json"] else _as_text(key, raw))


def _find_user(name: str) -> User:
    user = User.objects.filter(username=name).first()
    if user is None:
        names = ", ".join(User.objects.order_by("username").values_list("username", flat=True)[:20])
        hint = f"Users are: {names}." if names else "There is none; `manage.py createsuperuser`."
        raise CommandError(f"No user '{name}'. {hint}", returncode=NOT_FOUND)
    return user


def _as_text(key: ApiKey, raw: str) -> str:
    until = (
        "until it is revoked" if key.expires_at is None else f"until {key.expires_at:%F %H:%M} UTC"
    )
    return "\n".join(
        [
            f"Key '{key.name}' of {key.user.get_username()}, role {key.role}, {until}:",
            "",
            f"  {raw}",
            "",
            "It is not shown again. Try it:",
            f"  curl -H 'Authorization: Bearer {raw}' http://127.0.0.1:8000/api/v1/me",
        ]
    )


def _as_json(key: ApiKey, raw: str) -> str:
    return json.dumps(
        {
            "id": key.pk,
            "user": key.user.get_username(),
            "name": key.name,
            "role": key.role,
            "prefix": key.prefix,
            "expires_at": key.expires_at and key.expires_at.isoformat(),
            "key": raw,
        }
    )
