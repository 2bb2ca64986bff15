"""What the queue calls. A message is only a wake-up: it may come twice, late, or never."""

from jobs import services


def start_next(kind: str) -> None:
    while (job := services.claim_next(kind)) is not None:
        services.send_slice(job.pk, kind)


def run_slice(job_id: str) -> None:
    services.run_slice(job_id)


def watchdog() -> None:
    services.wake_what_waits()
