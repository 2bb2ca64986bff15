"""How a slice of work passes its few seconds: look, wait a moment, look again."""

import time
from collections.abc import Callable

from django.conf import settings

from jobs.leases import Lease, LeaseLost

LOOK_SECONDS = 0.25


def look_until_done(lease: Lease, look: Callable[[Lease], bool]) -> bool:
    """Call `look` until it says that the job has ended, or the slice is over.

    True: there is more to do. False also when somebody else has the lease: they go on.
    """
    ends_at = time.monotonic() + settings.SLICE_SECONDS
    try:
        while not look(lease):
            if time.monotonic() >= ends_at:
                return True
            time.sleep(LOOK_SECONDS)
            lease.renew()
    except LeaseLost:
        pass
    return False
