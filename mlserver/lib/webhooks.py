"""Messages to somebody else's server, signed by the Standard Webhooks scheme."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import orjson
from django.conf import settings
from django.utils.crypto import salted_hmac

from mlserver.lib.outgoing import OutgoingFailed, Reply, send

SALT = "mlserver.webhooks"
BACKOFF_SECONDS = (10, 60, 5 * 60, 30 * 60, 2 * 3600, 8 * 3600, 13 * 3600)
"""Seven tries after the first, a day in all."""


def signing_secret(url: str) -> str:
    """What the receiver checks signatures with. Follows from SECRET_KEY: no table holds it."""
    key = salted_hmac(SALT, url, algorithm="sha256").digest()
    return "whsec_" + base64.b64encode(key).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def post_message(url: str, *, message_id: str, timestamp: int, payload: dict[str, Any]) -> Reply:
    """Deliver once; anything but 2xx is a failure. The id is the same at every try."""
    body = orjson.dumps(payload, default=str, option=orjson.OPT_UTC_Z)
    reply = send(
        "POST",
        url,
        body=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "mlserver",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(signing_secret(url), message_id, timestamp, body),
        },
        total_seconds=settings.WEBHOOK_TIMEOUT,
    )
    if not 200 <= reply.status < 300:
        raise OutgoingFailed(f"The receiver answered {reply.status} instead of 2xx.")
    return reply


def seconds_until_next(attempts: int) -> int | None:
    """How long to wait after so many failures; None when it is enough."""
    limit = min(settings.WEBHOOK_RETRY_LIMIT, len(BACKOFF_SECONDS))
    return BACKOFF_SECONDS[attempts - 1] if attempts <= limit else None
