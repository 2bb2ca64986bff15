"""What the queue calls every hour: forget what can no longer open, limit or tell anything."""

from accounts import attempts, ratelimit, tokens


def tidy() -> dict[str, int]:
    """How much of what was forgotten."""
    return {
        "rate_limit_buckets": ratelimit.forget_full_buckets(),
        "tokens": tokens.forget_expired(),
        "attempts": attempts.forget_old_attempts(),
    }
