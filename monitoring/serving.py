"""What `manage.py serve` runs: the services, their start, and their end within five seconds."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts.environment import sync_environment_keys
from jobs.services import wake_what_waits
from ml.hardware import GpuReader
from mlserver.lib.errors import AppError
from mlserver.supervisor import Service, Supervisor
from mlserver.version import VERSION
from monitoring.metering import forget_counts
from monitoring.pulse import Pulse
from sessions.services import shutdown_running

logger = logging.getLogger(__name__)

CLUSTERS = {"queue": "default", "gpu-queue": "gpu"}
SILENT_SECONDS = 45.0
TICK_SECONDS = 0.1
CLUSTER_GRACE_SECONDS = 0.3
CHECKPOINT_SECONDS = 2.0
TRAININGS_SECONDS = 3.5  # with the checkpoint; then they are left for the next start
STOP_SECONDS = 4.5
FAILED_STARTS = 3
WARM_UP_AFTER_SECONDS = 5.0
WARM_FROM_BYTES = 4 * 2**30  # on smaller machines a training needs what a warm trainer would take
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (→ how to reach oneself)


class CannotServe(AppError):
    """The server does not start; the sentence says why and how to mend it."""

    code = "cannot_serve"


@dataclass(frozen=True, kw_only=True)
class Plan:
    host: str
    port: int
    workers: int = 1
    leave_trainings: bool = False

    @property
    def probe_address(self) -> tuple[str, int]:
        """Where this machine reaches itself."""
        return EVERYWHERE.get(self.host, self.host), self.port

    @property
    def url(self) -> str:
        host = socket.gethostname() if self.host in EVERYWHERE else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def check_port(plan: Plan) -> None:
    """A port that is taken is found out here, not in a child that starts again and again."""
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((plan.host, plan.port))
        except OSError as error:
            raise CannotServe(_explain_bind(plan, error)) from error


def _explain_bind(plan: Plan, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {plan.port} is already in use; choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {plan.port} needs more rights; choose one above 1023 with --port."
    return f"Cannot listen on {plan.host}, port {plan.port}: {error.strerror or error}."


def check_migrations() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CannotServe("The database is not up to date; run 'manage.py migrate' first.")


def make_services(plan: Plan) -> list[Service]:
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    return [
        Service(
            name="web",
            command=_web_command(plan),
            environment={"ALLOWED_HOSTS": ",".join(_allowed_hosts(plan))},
            silent_seconds=SILENT_SECONDS,
        ),
        *(
            Service(
                name=name,
                command=[*manage, "qcluster"],
                # The option -n would silently run the default cluster.
                environment={"Q_CLUSTER_NAME": cluster},
                silent_seconds=SILENT_SECONDS,
            )
            for name, cluster in CLUSTERS.items()
        ),
        Service(name="sampler", command=[*manage, "run_sampler"], silent_seconds=SILENT_SECONDS),
        Service(name="inference", command=[*manage, "run_inference"]),
        *([_warm_trainer()] if _has_warm_trainer() else []),
    ]


def _warm_trainer() -> Service:
    settings.TRAINER_SOCKET.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Service(
        name="trainer",
        command=[sys.executable, "-P", "-m", "ml.train.warm", str(settings.TRAINER_SOCKET)],
        delay_seconds=WARM_UP_AFTER_SECONDS,
    )


def _has_warm_trainer() -> bool:
    return settings.WARM_TRAINER and psutil.virtual_memory().total >= WARM_FROM_BYTES


def _web_command(plan: Plan) -> list[str]:
    options = {
        "--host": plan.host,
        "--port": plan.port,
        "--workers": plan.workers,
        # Without it an open event stream keeps the server from ending for ever.
        "--timeout-graceful-shutdown": 3,
        "--lifespan": "on",
        "--http": "mlserver.connections:Connection",
        "--log-level": "warning",
    }
    flags = [str(part) for option in options.items() for part in option]
    # Whoever connects from this machine could otherwise claim any address.
    flags += ["--no-access-log", "--no-server-header", "--no-proxy-headers"]
    return [sys.executable, "-m", "uvicorn", "mlserver.asgi:application", *flags]


def _allowed_hosts(plan: Plan) -> list[str]:
    """Who opens the server to the network may call it by each of this machine's names."""
    named = os.environ.get("ALLOWED_HOSTS", "").split(",")
    if plan.host in EVERYWHERE:
        named += [socket.gethostname(), socket.getfqdn(), *_own_addresses()]
    elif plan.host not in settings.ALLOWED_HOSTS:
        named.append(f"[{plan.host}]" if ":" in plan.host else plan.host)
    return [name for name in dict.fromkeys(named) if name]


def _own_addresses() -> list[str]:
    found = [address for each in psutil.net_if_addrs().values() for address in each]
    four = [a.address for a in found if a.family == socket.AF_INET]
    six = [f"[{a.address.partition('%')[0]}]" for a in found if a.family == socket.AF_INET6]
    return four + six


class Server:
    """Runs everything until `is_asked_to_stop`; `say` prints for whoever started it."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.is_asked_to_stop = False
        self._say = say
        self._supervisor = Supervisor(
            make_services(plan), directory=settings.BASE_DIR, marker=str(settings.VAR_DIR)
        )
        self._pulse = Pulse(
            address=plan.probe_address,
            clusters=CLUSTERS,
            report_sign=self._supervisor.report_sign,
        )

    def run(self) -> None:
        if left := self._supervisor.kill_leftovers():
            logger.warning("Ended %d processes that an earlier server left behind", left)
        check_port(self.plan)  # after the leftovers: one of them may have held it
        forget_counts()
        sync_environment_keys()
        wake_what_waits()
        connection.close()  # nothing of ours may be open in the children
        self._supervisor.start()
        try:
            self._pulse.start()
            self._watch()
        finally:
            self._stop()

    def _watch(self) -> None:
        is_ready = False
        while not self.is_asked_to_stop:
            self._supervisor.tick()
            if not is_ready and self._pulse.is_web_up:
                is_ready = True
                self._say(ready_message(self.plan))
            if not is_ready and self._supervisor.children["web"].failures >= FAILED_STARTS:
                raise CannotServe("The web server does not start; its own message is above.")
            time.sleep(TICK_SECONDS)

    def _stop(self) -> None:
        """The clusters first: they must neither judge nor start a training that we end."""
        ends_at = time.monotonic() + STOP_SECONDS
        self._say("Stopping …")
        everything = list(self._supervisor.children)
        self._supervisor.ask_to_stop(everything)
        self._supervisor.finish(CLUSTERS, CLUSTER_GRACE_SECONDS)
        if not self.plan.leave_trainings:
            self._say(end_trainings())
        self._supervisor.finish(everything, max(0.0, ends_at - time.monotonic()))
        self._say("Stopped.")


def end_trainings() -> str:
    """Back into the queue with them; in a thread, because a locked database may take long."""
    ended: list[list[str]] = []

    def shut_down() -> None:
        try:
            ended.append(shutdown_running(CHECKPOINT_SECONDS))
        except Exception:  # the edge: the server ends all the same, and they are adopted later
            logger.exception("The trainings could not be put back into the queue")
        finally:
            connection.close()

    thread = threading.Thread(target=shut_down, daemon=True)
    thread.start()
    thread.join(TRAININGS_SECONDS)
    if not ended:
        return "The next start takes care of the trainings that run."
    return f"Trainings put back into the queue: {len(ended[0]) or 'none ran'}."


def ready_message(plan: Plan) -> str:
    gpus, reason = GpuReader().read()
    names = ", ".join(gpu.name for gpu in gpus) or f"none ({reason})"
    opened = "" if plan.host in EVERYWHERE else "   (--host 0.0.0.0 opens it to the network)"
    return (
        f"\nmlserver {VERSION} is ready\n"
        f"  address  {plan.url}{opened}\n"
        f"  docs     {plan.url}/docs\n"
        f"  GPU      {names}\n"
        f"  data     {settings.VAR_DIR}\n"
        "Ctrl-C stops it; running trainings go on from their checkpoint at the next start.\n"
    )
