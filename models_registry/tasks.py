"""What the queue calls once a day."""

from models_registry import removal, storage


def tidy() -> None:
    removal.empty_trash()
    storage.clear_incoming()
