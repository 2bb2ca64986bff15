"""Readable, prefixed ids: `train_20260106_103000_k3x9q`."""

import secrets
from datetime import datetime

# Without letters and digits that are mistaken for each other.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def make_id(prefix: str, now: datetime) -> str:
    tail = "".join(secrets.choice(ALPHABET) for _ in range(5))
    return f"{prefix}_{now:%Y%m%d_%H%M%S}_{tail}"
