"""What the server says of itself: one line a record, as text or JSON, without secrets.

To a stream and to a file that several processes share and rotate. Logging never raises.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from mlserver.lib.origin import current_origin

STYLES = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SERVICES = ("serve", "qcluster", "run_sampler", "runserver")
FIELDS = ("method", "path", "route", "status", "ms")
"""What a record may carry beside its message (`extra=`)."""

LONGEST_TEXT = 20_000
FILE_BYTES = 20 * 2**20
FILES_KEPT = 5
COMPLAIN_SECONDS = 60.0

# Line ends, control characters, halves of surrogate pairs, and what turns text round.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
PLAIN = re.compile(r"[^\s\"=]+")
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
HIDDEN = "…"
SECRETS = (
    (re.compile(r"\b(mls_[A-Za-z0-9]{1,16})_[A-Za-z0-9_-]{8,}"), rf"\1_{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]+"), f"eyJ{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|token|basic)\s+(?=\S*[\d=])[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|pepper|token|api[_-]?keys?)['\"]?\s*[:=]\s*)"
            r"(?:'[^']*'|\"[^\"]*\"|[^\s,;&}\]]+)"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(\w+://[^\s:/@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
)
SECRET_SETTING = re.compile(r"(^|_)(KEY|KEYS|PEPPER|PASSWORD|SECRET|FALLBACKS)$")


def configuration(*, level: str, style: str, file: Path) -> dict[str, Any]:
    """Django's LOGGING."""
    if style not in STYLES:
        raise ImproperlyConfigured(f"LOG_FORMAT must be one of {', '.join(STYLES)}, got {style!r}")
    if level not in LEVELS:
        raise ImproperlyConfigured(f"LOG_LEVEL must be one of {', '.join(LEVELS)}, got {level!r}")
    passed_on: dict[str, Any] = {"handlers": [], "propagate": True}
    stream = "ext://sys.stdout" if _is_service(sys.argv) else "ext://sys.stderr"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"exceptions": {"()": "mlserver.logs.OnlyExceptions"}},
        "formatters": {"line": {"()": f"mlserver.logs.{style.capitalize()}Formatter"}},
        "handlers": {
            "console": {"()": "mlserver.logs.Console", "stream": stream, "formatter": "line"},
            "file": {"()": "mlserver.logs.SharedFile", "path": file, "formatter": "line"},
        },
        "root": {"handlers": ["console", "file"], "level": level},
        "loggers": {
            "django": passed_on,
            "django.server": passed_on,
            # The request log has every answer; here are the tracebacks behind a 500.
            "django.request": {"level": "ERROR", "filters": ["exceptions"]},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "uvicorn": passed_on,
            "uvicorn.error": passed_on,
            "uvicorn.access": {"handlers": [], "propagate": False},
            # It tells of every message sent and taken: several lines a second.
            "django-q": {"level": "WARNING"},
            "axes": {
                "level": "WARNING"
            },  # four lines for each sign-in; the attempt is a row anyway
        },
    }


def _is_service(argv: list[str]) -> bool:
    """Other commands print their answer to standard output; log lines must not be in it."""
    is_manage = Path(argv[0]).name == "manage.py"
    return not is_manage or (len(argv) > 1 and argv[1] in SERVICES)


# --- What a line looks like ------------------------------------------------------------------


class OnlyExceptions(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is not None


class TextFormatter(logging.Formatter):
    """`2026-01-06T10:30:00.123Z INFO mlserver.requests request request_id=… status=200`."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: on_one_line(value) for name, value in _facts(record).items()}
        parts = [facts.pop("time"), facts.pop("level"), facts.pop("logger"), facts.pop("message")]
        trace = facts.pop("exception", None)
        parts += [f"{name}={_quoted(value)}" for name, value in facts.items()]
        return " ".join(parts) + (f" {trace}" if trace else "")


def _quoted(text: str) -> str:
    """A path with blanks must not look like further fields."""
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class JsonFormatter(logging.Formatter):
    """JSON in ASCII escapes by itself what would break a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_facts(record))


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """Everything of a record, in order, without secrets."""
    moment = datetime.fromtimestamp(record.created, UTC)
    facts: dict[str, Any] = {
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "level": record.levelname,
        "logger": clean(record.name),
        "message": clean(_message(record)),
    }
    origin = current_origin()
    if origin.request_id:
        facts["request_id"] = clean(origin.request_id)
    if origin.key_prefix:
        facts["key"] = clean(origin.key_prefix)
    for name in FIELDS:
        if (value := getattr(record, name, None)) is not None:
            facts[name] = value if isinstance(value, int | float) else clean(str(value))
    if record.exc_info and record.exc_info[0] is not None:
        facts["exception"] = clean(logging.Formatter().formatException(record.exc_info))
    return facts


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  (wrong arguments must not lose what was to be said)
        return f"{record.msg} {record.args!r}"


def clean(text: str) -> str:
    """Of a bearable length, without secrets."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text) - LONGEST_TEXT:,} characters more)"
    return scrub(text)


def on_one_line(value: Any) -> str:
    return UNPRINTABLE.sub(_escape, str(value))


def scrub(text: str) -> str:
    for value in _known_secrets():
        text = text.replace(value, HIDDEN)
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text


@cache
def _known_secrets() -> tuple[str, ...]:
    """The secrets of this server's settings, whatever they look like."""
    from django.conf import settings  # while they are being made, nothing is logged

    named = [getattr(settings, name) for name in dir(settings) if SECRET_SETTING.search(name)]
    values = {text for value in named for text in _texts(value) if len(text) >= 8}
    return tuple(sorted(values, key=len, reverse=True))


def _texts(value: Any) -> list[str]:
    parts = value if isinstance(value, list | tuple) else [value]
    return [part for part in parts if isinstance(part, str)]


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return SHORT.get(character) or f"\\u{ord(character):04x}"


# --- Where it goes ---------------------------------------------------------------------------


class Calm(logging.Handler):
    """A handler that fails tells standard error, once a minute, and nobody else."""

    complained_at = -COMPLAIN_SECONDS

    def handleError(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self.complained_at < COMPLAIN_SECONDS:
            return
        self.complained_at = now
        with contextlib.suppress(Exception):  # there is nobody left to tell
            kind, error, _ = sys.exc_info()
            name = kind.__name__ if kind else "error"
            sys.stderr.write(f"A log line could not be written: {name}: {on_one_line(error)}\n")


class Console(Calm, logging.StreamHandler[Any]):
    """A standard stream; what its encoding does not know is escaped."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class SharedFile(Calm):
    """One file for all processes: each line is one appending write, so none is torn.

    Whoever makes it too long moves it aside; the others notice by its inode.
    """

    def __init__(self, path: Path, max_bytes: int = FILE_BYTES, kept: int = FILES_KEPT) -> None:
        super().__init__()
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.kept = kept
        self._descriptor: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            descriptor = self._open()
            os.write(descriptor, line)
            if os.fstat(descriptor).st_size > self.max_bytes:
                self._rotate()
        except Exception:  # noqa: BLE001  (the edge: logging never raises)
            self.handleError(record)

    def close(self) -> None:
        self._close()
        super().close()

    def _open(self) -> int:
        if self._descriptor is not None and not self._is_current(self._descriptor):
            self._close()
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptor = os.open(self.path, flags, 0o640)
        return self._descriptor

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _rotate(self) -> None:
        with self._alone() as is_alone:
            if not is_alone or self.path.stat().st_size <= self.max_bytes:
                return  # another process is doing so, or has just done so
            for number in range(self.kept - 1, 0, -1):
                if (old := self._numbered(number)).exists():
                    old.replace(self._numbered(number + 1))
            self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        descriptor = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT)
        try:
            yield _lock(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
