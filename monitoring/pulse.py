"""Feels the pulse of the services that `serve` runs, and passes each sign of life on.

A cluster is asked by a canary: a task that leaves a heartbeat. The web answers
/health/live, the sampler leaves rows. Runs in a thread, so that a database or a server
that hangs never keeps `serve` from stopping.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django_q.tasks import async_task

from monitoring.models import ClusterHeartbeat, HostSample

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
PROBE_EVERY_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 5.0
LOST_SECONDS = 60.0  # a canary that did not come back by then is sent again


@dataclass
class Canary:
    """The one that was sent last to a cluster, and the heartbeat that was seen last."""

    cluster: str
    sent_at: float = float("-inf")
    is_out: bool = False
    seen_at: datetime | None = None


class Pulse:
    """`clusters`: service → cluster. `report_sign` gets the name of a service that lives."""

    def __init__(
        self,
        *,
        address: tuple[str, int],
        clusters: Mapping[str, str],
        report_sign: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._canaries = {name: Canary(cluster) for name, cluster in clusters.items()}
        self._report_sign = report_sign
        self._clock = clock
        self._sampled_id: int | None = None
        self._probed_at = float("-inf")
        self.is_web_up = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def look(self) -> None:
        """One look at everything."""
        self._probe_web()
        try:
            self._look_at_clusters()
            self._look_at_sampler()
        except (DatabaseError, InterfaceError):
            # Not their fault: starting them again would not bring the database back.
            logger.warning("The database does not answer; clusters and sampler are not judged")
            connections.close_all()
            for name in ("sampler", *self._canaries):
                self._report_sign(name)

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # the edge: without a pulse everything would be restarted
                logger.exception("The pulse could not be taken; it goes on")
            time.sleep(LOOK_SECONDS)

    def _probe_web(self) -> None:
        now = self._clock()
        if self.is_web_up and now - self._probed_at < PROBE_EVERY_SECONDS:
            return
        self._probed_at = now
        self.is_web_up = answers(self._address)
        if self.is_web_up:
            self._report_sign("web")

    def _look_at_clusters(self) -> None:
        seen = dict(ClusterHeartbeat.objects.values_list("cluster", "seen_at"))
        for name, canary in self._canaries.items():
            heartbeat = seen.get(canary.cluster)
            if canary.is_out and heartbeat != canary.seen_at:
                canary.is_out = False
                self._report_sign(name)
            canary.seen_at = heartbeat
            self._send(canary)

    def _send(self, canary: Canary) -> None:
        """Only one is out at a time: a cluster that stands still must not find hundreds."""
        now = self._clock()
        pause = LOST_SECONDS if canary.is_out else settings.CANARY_SECONDS
        if now - canary.sent_at >= pause:
            async_task(
                "monitoring.tasks.canary", canary.cluster, cluster=canary.cluster, save=False
            )
            canary.sent_at, canary.is_out = now, True

    def _look_at_sampler(self) -> None:
        newest = HostSample.objects.order_by("-id").values_list("pk", flat=True).first()
        if newest != self._sampled_id:
            self._sampled_id = newest
            self._report_sign("sampler")


def answers(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=PROBE_TIMEOUT_SECONDS)
    try:
        # The address that we listen on need not be in ALLOWED_HOSTS; this name is.
        connection.request("GET", "/health/live", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
