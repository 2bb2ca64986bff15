"""`manage.py run_sampler`: reads the hardware once a second, for ever."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import closing
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, connections

from ml.hardware.selftest import describe_costs, measure_costs
from mlserver.lib.single import AlreadyRunning, only_one
from monitoring import alerts
from monitoring.models import HostSample
from monitoring.sampler import Sampler

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Reads CPU, memory, disk, network, processes and GPUs once a second and keeps their "
        "history. One per machine; 'manage.py serve' starts it too."
    )
    is_asked_to_stop = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--selftest",
            action="store_true",
            help="read everything a few times, print what each call costs, store nothing",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["selftest"]:
            self.stdout.write(describe_costs(measure_costs(settings.VAR_DIR)))
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        try:
            with only_one(settings.VAR_DIR / "sampler.pid"), closing(Sampler()) as sampler:
                self._run(sampler)
        except AlreadyRunning as error:
            raise CommandError(f"A sampler already runs (process {error.holder}).") from error

    def _run(self, sampler: Sampler) -> None:
        while not self.is_asked_to_stop:
            try:
                self._watch(sampler.tick())
            except (DatabaseError, InterfaceError):  # away for a while; a gap is a gap
                logger.exception("A sample could not be kept")
                connections.close_all()
            # To the next beat of the clock, not one second from here: else the looks drift,
            # and now and then a second has none.
            time.sleep(PERIOD_SECONDS - time.time() % PERIOD_SECONDS)

    def _watch(self, sample: HostSample) -> None:
        try:
            alerts.evaluate(sample.timestamp, sample)
        except (DatabaseError, InterfaceError):
            raise
        except Exception:  # the edge: a rule that cannot be judged must not end the readings
            logger.exception("The rules of alerts could not be held against a sample")

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.is_asked_to_stop = True
