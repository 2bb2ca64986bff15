"""What the queue calls once a day."""

from datasets import removal, services


def tidy() -> None:
    forget_old()
    services.request_missing_statistics()


def forget_old() -> dict[str, int]:
    """How much of what was forgotten."""
    return {
        "deleted_datasets": removal.empty_trash(),
        "broken_uploads": services.remove_leftovers(),
        "statistics_jobs": services.forget_old_jobs(),
    }
