"""What the queue calls once a day."""

from datasets import removal, services


def tidy() -> None:
    removal.empty_trash()
    services.remove_leftovers()
    services.request_missing_statistics()
