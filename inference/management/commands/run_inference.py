"""`manage.py run_inference`: keeps the models in memory that should be there, for ever."""

from __future__ import annotations

import logging
import signal
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connections

from inference.manager import Manager
from mlserver.lib.single import AlreadyRunning, only_one

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 0.1


class Command(BaseCommand):
    help = (
        "Loads the models that should be in memory, each into a worker process of its own, and "
        "replaces workers that die. One per machine; 'manage.py serve' starts it too."
    )
    is_asked_to_stop = False

    def handle(self, *args: Any, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        manager = Manager()
        try:
            with only_one(settings.VAR_DIR / "inference.pid"):
                manager.begin()
                self._run(manager)
        except AlreadyRunning as error:
            raise CommandError(
                f"An inference manager already runs (process {error.holder})."
            ) from error

    def _run(self, manager: Manager) -> None:
        try:
            while not self.is_asked_to_stop:
                try:
                    manager.tick()
                except (DatabaseError, InterfaceError):  # away for a while; the workers go on
                    logger.exception("The database does not answer; models stay as they are")
                    connections.close_all()
                time.sleep(PERIOD_SECONDS)
        finally:
            manager.stop()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.is_asked_to_stop = True
