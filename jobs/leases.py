"""The right to supervise one attempt of one job, for a few seconds at a time."""

import os
import secrets
import socket
from dataclasses import dataclass, field
from typing import Any

from jobs.models import Job


class LeaseLost(Exception):
    """Another supervisor took over; whoever sees this must let go without writing."""


def new_owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Lease:
    job_id: str
    attempt: int
    owner: str = field(default_factory=new_owner)

    def renew(self) -> None:
        if not Job.objects.renew_lease(self.job_id, self.attempt, self.owner):
            raise LeaseLost(self.job_id)

    def write(self, **values: Any) -> None:
        """Change the job's row, fenced by this lease. Call it first in a transaction:
        the rows that follow are then fenced, too."""
        if not Job.objects.write(self.job_id, self.attempt, self.owner, **values):
            raise LeaseLost(self.job_id)

    def release(self) -> None:
        Job.objects.release_lease(self.job_id, self.owner)
