"""What the queue calls every hour: forget what can no longer open or limit anything."""

from accounts import ratelimit, tokens


def tidy() -> None:
    ratelimit.forget_full_buckets()
    tokens.forget_expired()
