"""Preemption: work that is only there to fill a free seat gives it to what people wait for.

It is asked to checkpoint, and goes back into the queue.
"""

from jobs.models import Job, Wanted


def ask_to_yield(kind: str) -> int:
    """Ask as many as others wait for; who is already on the way out counts. How many were asked.

    To be called under the lock of the seats, when none is free.
    """
    running = Job.objects.filter(kind=kind).running()
    waiting = Job.objects.filter(kind=kind, preemptible=False).waiting().count()
    missing = waiting - running.filter(yielding=True).count()
    able = running.filter(preemptible=True, yielding=False, wanted=Wanted.RUN)
    chosen = able.order_by("priority", "-started_at").values_list("pk", flat=True)
    return running.filter(pk__in=list(chosen[: max(0, missing)])).update(yielding=True)
