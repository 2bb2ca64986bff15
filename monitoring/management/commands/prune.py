"""`manage.py prune`: forget now what would be forgotten by and by."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts import tasks as accounts
from datasets import tasks as datasets
from models_registry import tasks as models_registry
from monitoring import tasks as monitoring

STEPS = (accounts.tidy, datasets.forget_old, models_registry.tidy, monitoring.tidy)


class Command(BaseCommand):
    help = (
        "Forgets what is older than the settings keep it: attempts to come in (AUTH_LOG_DAYS), "
        "errands that are done (JOB_RETENTION_HOURS), what lies in the trash (TRASH_DAYS), expired "
        "tokens, leftovers of broken uploads, old readings and alerts. The queue does the same "
        "by itself, every hour or day. Sessions, models, datasets and the audit are never touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        counts = {name: count for step in STEPS for name, count in step().items()}
        if options["json"]:
            self.stdout.write(json.dumps(counts))
            return
        for name, count in counts.items():
            self.stdout.write(f"{count:8,} {name.replace('_', ' ')}")
