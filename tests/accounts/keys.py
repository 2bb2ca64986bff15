"""What a key does at the door."""

from accounts.models import ApiKey
from accounts.services import examine_key


def opened_by(raw: str, address: str | None = None) -> ApiKey | None:
    """The key, if it may come in now."""
    examined = examine_key(raw, address)
    return examined.key if examined.accepted else None
