"""`manage.py sync_keys`: what `serve` does at its start with the setting API_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.environment import BadEntry, sync_environment_keys


class Command(BaseCommand):
    help = (
        "Makes a hashed key of each entry of API_KEYS, and revokes those that are gone. "
        "`serve` does it by itself; run it where the web server is started another way."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made, revoked = sync_environment_keys()
        except BadEntry as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Keys from API_KEYS: {made} made, {revoked} revoked.")
