"""`manage.py seed_demo`: what a first start needs. A second run repeats nothing."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.services import create_first_admin
from datasets.services import seed_builtins
from mlserver.lib.errors import AppError
from sessions.demo import seed_demo


class Command(BaseCommand):
    help = (
        "Create the first admin and API key (shown once), register the built-in datasets, and "
        "queue the demo models: digits, a classifier of insecure code, and a code generator that "
        "learns for minutes and yields to everybody's own sessions. Does only what is missing. "
        "The setting DEMO_MODELS names those that are wanted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--small",
            action="store_true",
            help="demo models of a few hundred functions and one epoch: seconds, to look around",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._make_admin()
        for version in seed_builtins():
            self.stdout.write(f"Registered the dataset {version}.")
        owner = User.objects.filter(is_superuser=True).order_by("id").first()
        if owner is None:
            self.stdout.write("There is no admin to own demo models; none is trained.")
            return
        try:
            told = seed_demo(owner, is_small=options["small"])
        except AppError as error:
            raise CommandError(error.detail) from error
        for sentence in told:
            self.stdout.write(sentence)

    def _make_admin(self) -> None:
        made = create_first_admin()
        if made is None:
            return
        user, password, key = made
        self.stdout.write(
            self.style.SUCCESS("The first admin. Shown once; keep it:")
            + f"\n  user      {user.username}\n  password  {password}\n  API key   {key}\n"
        )
