"""`manage.py seed_demo`: what a first start needs. A second run repeats nothing."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand

from accounts.services import create_first_admin
from datasets.services import seed_builtins
from sessions.models import TrainingSession
from sessions.services import start_session

DEMO_NAME = "digits-demo"
DEMO_CONFIG = {
    "recipe": "network",
    "dataset": "digits",
    "architecture": "cnn",
    "epochs": 12,
    "batch_size": 64,
    "learning_rate": 0.001,
    "optimizer": "adam",
    "seed": 3,
}


class Command(BaseCommand):
    help = (
        "Create the first admin and API key (shown once), register the built-in datasets, "
        "and queue a first training session on the digits. Does only what is missing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self._make_admin()
        for version in seed_builtins():
            self.stdout.write(f"Registered the dataset {version}.")
        if not TrainingSession.objects.filter(name=DEMO_NAME).exists():
            owner = User.objects.filter(is_superuser=True).order_by("id").first()
            if owner is not None:
                session = start_session(owner=owner, config=DEMO_CONFIG, name=DEMO_NAME)
                self.stdout.write(f"Queued a first training session: {session.pk}.")

    def _make_admin(self) -> None:
        made = create_first_admin()
        if made is None:
            return
        user, password, key = made
        self.stdout.write(
            self.style.SUCCESS("The first admin. Shown once; keep it:")
            + f"\n  user      {user.username}\n  password  {password}\n  API key   {key}\n"
        )
