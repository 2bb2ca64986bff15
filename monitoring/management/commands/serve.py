"""`manage.py serve`: everything in one command, until Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlserver.lib.single import AlreadyRunning, only_one
from monitoring.serving import CannotServe, Plan, Server, check_migrations


class Command(BaseCommand):
    help = (
        "Starts the web server, both task clusters, the sampler and inference, and replaces what "
        "dies. "
        "Ctrl-C (or SIGTERM) ends all of it within five seconds: running trainings are asked "
        "for a checkpoint and go back into the queue, unless --leave-trainings is given."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--host",
            default=settings.API_HOST,
            help="address to listen on; 0.0.0.0 opens the server to the network (%(default)s)",
        )
        parser.add_argument("--port", type=int, default=settings.API_PORT, help="(%(default)s)")
        parser.add_argument(
            "--workers", type=int, default=1, help="number of web processes (%(default)s)"
        )
        parser.add_argument(
            "--leave-trainings",
            action="store_true",
            help="let running trainings go on; the next start adopts them",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        plan = Plan(
            host=options["host"],
            port=options["port"],
            workers=options["workers"],
            leave_trainings=options["leave_trainings"],
        )
        if plan.workers < 1 or not 0 < plan.port < 65536:
            raise CommandError("--workers must be at least 1 and --port between 1 and 65535.")
        try:
            with only_one(settings.VAR_DIR / "serve.pid"):
                check_migrations()
                self._serve(plan)
        except AlreadyRunning as error:
            raise CommandError(
                f"A server already runs on {settings.VAR_DIR} (process {error.holder}); "
                "stop it first, or set VAR_DIR to another folder."
            ) from error
        except CannotServe as error:
            raise CommandError(error.detail) from error

    def _serve(self, plan: Plan) -> None:
        server = Server(plan, self._say)

        def ask_to_stop(number: int, frame: FrameType | None) -> None:
            server.is_asked_to_stop = True

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, ask_to_stop)
        server.run()

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
