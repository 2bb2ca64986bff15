"""What the queue calls once a day."""

from models_registry import removal, storage


def tidy() -> dict[str, int]:
    """Forget what is too old; how much of what that was."""
    return {
        "deleted_models": removal.empty_trash(),
        "broken_copies": storage.clear_incoming(),
    }
