"""Reads the hardware in three tiers, and keeps samples, processes, history and energy."""

from __future__ import annotations

import logging
import socket
from dataclasses import asdict

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from ml.hardware import DriverEvent, GpuReader, GpuReading, HostReader, HostReading, Tier
from ml.hardware.nvidia import NvidiaReader
from monitoring import history
from monitoring.energy import EnergyMeter, add_energy, explain_missing
from monitoring.models import GpuSample, HardwareEvent, HostSample
from monitoring.processes import Look, ProcessJoiner, store_processes
from monitoring.use import UseBook, prune_use

logger = logging.getLogger(__name__)

MEDIUM_EVERY_TICKS = 5
HISTORY_EVERY_TICKS = 10
SLOW_EVERY_TICKS = 60


class Sampler:
    """One tick a second. What a tick cannot keep is a gap; the next one begins afresh."""

    def __init__(
        self,
        host: HostReader | None = None,
        gpus: GpuReader | None = None,
        processes: ProcessJoiner | None = None,
    ) -> None:
        self._host = host or HostReader(settings.VAR_DIR)
        self._gpus = gpus or GpuReader(NvidiaReader(watches_events=True))
        self._processes = processes or ProcessJoiner()
        self._energy = EnergyMeter()
        self._use = UseBook()
        self.host_name = socket.gethostname()
        self._look = Look([], {})
        self._ticks = 0

    def tick(self) -> HostSample:
        """Take one sample of everything that is due, and keep it."""
        tier = self._tier()
        host, (gpus, no_gpu) = self._host.read(), self._gpus.read(tier)
        if tier >= Tier.MEDIUM:
            self._look = self._processes.look(*self._gpus.processes())
        used = self._energy.measure(gpus, self._look.holders)
        self._use.add(used)
        with transaction.atomic():
            sample = self._keep_sample(host, gpus, no_gpu)
            self._keep_events(self._gpus.events())
            add_energy(used)
            if tier >= Tier.MEDIUM:
                self._use.write()
                store_processes(self._look)
                explain_missing(self._look.sessions, self._look.holders, gpus, no_gpu)
        self._tidy()
        self._ticks += 1
        return sample

    def close(self) -> None:
        self._gpus.close()

    def _tier(self) -> Tier:
        if self._ticks % SLOW_EVERY_TICKS == 0:
            return Tier.SLOW
        return Tier.MEDIUM if self._ticks % MEDIUM_EVERY_TICKS == 0 else Tier.FAST

    def _tidy(self) -> None:
        if self._ticks % HISTORY_EVERY_TICKS == 0:
            history.advance(self.host_name)  # before anything is forgotten
        if self._ticks % SLOW_EVERY_TICKS == 0:
            history.prune()
            prune_use(timezone.now())

    def _keep_sample(
        self, reading: HostReading, gpus: list[GpuReading], no_gpu: str | None
    ) -> HostSample:
        values = asdict(reading)
        if no_gpu is not None:
            values["reasons"]["gpus"] = no_gpu
        sample = HostSample.objects.create(
            host=self.host_name, gpu_count=_count_whole(gpus), **values
        )
        GpuSample.objects.bulk_create(GpuSample(host_sample=sample, **asdict(gpu)) for gpu in gpus)
        return sample

    def _keep_events(self, events: list[DriverEvent]) -> None:
        for event in events:
            logger.warning("%s %s", event.uuid or "NVIDIA driver", event.message)
        HardwareEvent.objects.bulk_create(
            HardwareEvent(host=self.host_name, **asdict(event)) for event in events
        )


def _count_whole(gpus: list[GpuReading]) -> int:
    return sum(not gpu.parent_uuid for gpu in gpus)
