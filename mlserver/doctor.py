"""What is wrong with this machine or this set-up, and how to mend it. Changes nothing.

Every check has a stable id and gives one finding; a check that itself fails is one, too.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.checks import ERROR as CHECK_ERROR
from django.core.checks import run_checks
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Max
from django.utils import timezone

from jobs.models import Job
from ml.hardware import GpuReader
from ml.lock.landlock import find_version
from mlserver.lib.children import run_ml
from mlserver.lib.single import is_held
from monitoring.health import OK as ALIVE
from monitoring.health import SILENT, check_readiness
from monitoring.services import latest_sample
from monitoring.serving import EVERYWHERE, CannotServe, check_migrations

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"
LOWEST_PYTHON = (3, 11)
SOUND_SQLITE = (3, 51, 3)
GIB = 2**30
DISK_ERROR_BYTES, DISK_WARNING_BYTES = GIB // 5, 5 * GIB
REMOTE_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")
WSGI_SERVERS = ("WSGIServer", "gunicorn", "waitress")
CLOCK_TOLERANCE = timedelta(seconds=5)
CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR, an answer of adjtimex(2)
START = "start everything with 'manage.py serve'"


@dataclass(frozen=True)
class Finding:
    id: str
    status: str
    message: str
    fix: str = ""


def examine() -> list[Finding]:
    return [_examine_one(name, check) for name, check in CHECKS.items()]


def as_json(findings: list[Finding]) -> dict[str, Any]:
    return {"status": worst(findings), "findings": [asdict(finding) for finding in findings]}


def worst(findings: list[Finding]) -> str:
    found = {finding.status for finding in findings}
    return next((status for status in (ERROR, WARNING) if status in found), OK)


def _examine_one(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (DatabaseError, InterfaceError) as error:
        message = f"the database refused the question: {error}"
        return Finding(name, ERROR, message, "see the finding 'database'")
    except Exception as error:  # noqa: BLE001  (one check that fails must not hide the others)
        message = f"could not be examined: {type(error).__name__}: {error}"
        return Finding(name, ERROR, message, "please report this")


# --- The machine -----------------------------------------------------------------------------


def check_python() -> Finding:
    message = f"Python {sys.version.split()[0]} in {sys.prefix}"
    if sys.version_info >= LOWEST_PYTHON:
        return Finding("python", OK, message)
    return Finding("python", ERROR, message, "install Python 3.11 or newer and run 'make run'")


def check_sqlite() -> Finding:
    if connection.vendor != "sqlite":
        return Finding("sqlite", SKIPPED, f"the database is {connection.vendor}")
    folder = Path(settings.DATABASES["default"]["NAME"]).parent
    if (kind := _filesystem(folder)) in REMOTE_FILESYSTEMS:
        return Finding(
            "sqlite",
            ERROR,
            f"the database lies on {kind} ({folder}), where its write-ahead log cannot work",
            "set VAR_DIR to a local disk, or DATABASE_URL to a PostgreSQL server",
        )
    if sqlite3.sqlite_version_info >= SOUND_SQLITE:
        return Finding("sqlite", OK, f"SQLite {sqlite3.sqlite_version}")
    return Finding(
        "sqlite",
        WARNING,
        f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: in rare cases two processes that "
        "write at the same moment damage the database; 3.51.3 mends it",
        "keep backups; use a Python that is linked to SQLite 3.51.3 or newer, "
        "or set DATABASE_URL to a PostgreSQL server",
    )


def _filesystem(folder: Path) -> str:
    mounts = [each for each in psutil.disk_partitions(all=True) if _is_under(folder, each)]
    return str(max(mounts, key=lambda each: len(each.mountpoint)).fstype) if mounts else ""


def _is_under(folder: Path, partition: Any) -> bool:
    return folder.resolve().is_relative_to(partition.mountpoint)


def check_disk() -> Finding:
    free = {folder: shutil.disk_usage(folder).free for folder in _volumes()}
    told = ", ".join(f"{size / GIB:.1f} GiB at {folder}" for folder, size in free.items())
    lowest = min(free.values())
    if lowest >= DISK_WARNING_BYTES:
        return Finding("disk", OK, f"free: {told}")
    status = ERROR if lowest < DISK_ERROR_BYTES else WARNING
    fix = "delete sessions, models or datasets that nobody needs, or move VAR_DIR to a larger disk"
    return Finding("disk", status, f"little is free: {told}", fix)


def _volumes() -> list[Path]:
    """One folder of each volume that holds something of ours."""
    return list({folder.stat().st_dev: folder for folder in reversed(_folders())}.values())


def _folders() -> list[Path]:
    names = ("VAR_DIR", "DATASETS_DIR", "MODELS_DIR", "RUNS_DIR", "FILE_UPLOAD_TEMP_DIR")
    return [Path(getattr(settings, name)) for name in names]


def check_writing() -> Finding:
    refused = [reason for folder in _folders() if (reason := _why_not_writable(folder))]
    if not refused:
        return Finding("writing", OK, "every folder takes files")
    fix = "give the folders to the user that runs the server, or point the settings elsewhere"
    return Finding("writing", ERROR, "; ".join(refused), fix)


def _why_not_writable(folder: Path) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def check_clock() -> Finding:
    now = timezone.now()
    newest = Job.objects.aggregate(newest=Max("updated_at"))["newest"]
    if newest is not None and newest - now > CLOCK_TOLERANCE:
        return _clock(f"the database has a row from {newest:%F %T}, but here it is {now:%F %T} UTC")
    apart = abs(_database_time() - now)
    if apart > CLOCK_TOLERANCE:
        return _clock(f"the database's clock and this one differ by {apart.total_seconds():.0f} s")
    if _is_unsynchronised():
        message = f"{now:%F %T} UTC, but the kernel says that nothing keeps it right"
        return Finding("clock", WARNING, message, "run chrony or systemd-timesyncd")
    return Finding("clock", OK, f"{now:%F %T} UTC")


def _clock(message: str) -> Finding:
    fix = "set the clock (chrony or systemd-timesyncd): leases of running trainings depend on it"
    return Finding("clock", ERROR, message, fix)


def _database_time() -> datetime:
    if connection.vendor != "postgresql":
        return timezone.now()  # it has no clock of its own
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment.astimezone(UTC)


def _is_unsynchronised() -> bool:
    """Asks the kernel; where it does not answer nothing is claimed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "adjtimex"):
        return False
    question = (ctypes.c_long * 64)()  # struct timex, larger than anywhere; modes = 0: only read
    return bool(libc.adjtimex(ctypes.byref(question)) == CLOCK_UNSYNCHRONISED)


def check_landlock() -> Finding:
    if version := find_version():
        return Finding(
            "landlock", OK, f"Landlock version {version}: uploaded files can be locked in"
        )
    return Finding(
        "landlock",
        WARNING,
        "this kernel has no Landlock; models of foreign formats will be refused",
        "use Linux 5.13 or newer with 'landlock' in the kernel's lsm= list, or set "
        "ALLOW_UNSANDBOXED_MODELS=1 where only trusted people upload",
    )


# --- GPUs ------------------------------------------------------------------------------------


def check_gpu() -> Finding:
    reader = GpuReader()
    gpus, reason = reader.read()
    reader.close()
    if not gpus:
        return Finding("gpu", OK, f"no GPU: {reason} Trainings run on the CPU")
    return judge_torch([gpu.name for gpu in gpus], run_ml("torch", {}, memory_bytes=None))


def judge_torch(gpus: list[str], torch: dict[str, Any]) -> Finding:
    """What the driver sees against what the build of torch can use."""
    seen, build = ", ".join(gpus), torch["cuda"] or torch["hip"]
    if torch["devices"]:
        return Finding("gpu", OK, f"{seen}; torch {torch['version']} sees {len(torch['devices'])}")
    if build is None:
        message = f"the driver sees {seen}, but torch {torch['version']} is a build for CPUs"
        fix = "reinstall torch from the index for your driver: https://pytorch.org/get-started"
        return Finding("gpu", WARNING, f"{message}; trainings run on the CPU", fix)
    return Finding(
        "gpu",
        WARNING,
        f"the driver sees {seen}, but torch {torch['version']} (for {build}) cannot use it: "
        f"{torch['reason'] or 'it does not say why'}",
        f"update the driver to one that supports {build}, or install a torch for the driver's "
        "version; look at CUDA_VISIBLE_DEVICES",
    )


# --- The set-up ------------------------------------------------------------------------------


def check_settings() -> Finding:
    found = run_checks()
    if not found:
        return Finding("settings", OK, "the system checks have nothing to say")
    status = ERROR if any(each.level >= CHECK_ERROR for each in found) else WARNING
    told = "; ".join(f"{each.id}: {each.msg}" for each in found)
    return Finding(
        "settings", status, told, "; ".join(str(each.hint) for each in found if each.hint)
    )


def check_database() -> Finding:
    try:
        check_migrations()
    except CannotServe as error:
        return Finding("database", ERROR, error.detail, "run 'manage.py migrate'")
    except (DatabaseError, InterfaceError) as error:
        fix = "start the database, or mend DATABASE_URL"
        return Finding("database", ERROR, f"{connection.vendor} does not answer: {error}", fix)
    return Finding("database", OK, f"{connection.vendor} answers and is up to date")


def check_asgi() -> Finding:
    """Event streams need it; a WSGI server would hang on the first one."""
    address = (EVERYWHERE.get(settings.API_HOST, settings.API_HOST), settings.API_PORT)
    server = _ask_server(*address)
    if server is None:
        return Finding("asgi", SKIPPED, f"nothing answers at {address[0]}:{address[1]}", START)
    if any(name in server for name in WSGI_SERVERS):
        return Finding("asgi", ERROR, f"{server} speaks WSGI: event streams hang", START)
    return Finding("asgi", OK, f"the server answers at {address[0]}:{address[1]}")


def _ask_server(host: str, port: int) -> str | None:
    """The software that answers there, as far as it says so; None: nobody."""
    asking = http.client.HTTPConnection(host, port, timeout=5)
    try:
        asking.request("GET", "/health/live")
        answer = asking.getresponse()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asking.close()
    return answer.headers.get("Server", "")


def check_queue() -> Finding:
    services = check_readiness()["services"]
    silent = [name for name, state in services.items() if state != ALIVE and name != "database"]
    if not silent:
        return Finding("queue", OK, "both clusters gave a sign of life within a minute")
    return _silence("queue", f"silent: {', '.join(silent)}; jobs stay in the queue")


def check_sampler() -> Finding:
    sample = latest_sample()
    if sample is not None and timezone.now() - sample.timestamp <= SILENT:
        return Finding("sampler", OK, f"the newest reading is from {sample.timestamp:%F %T} UTC")
    since = f"since {sample.timestamp:%F %T} UTC" if sample else "yet"
    return _silence("sampler", f"no reading {since}")


def _silence(name: str, message: str) -> Finding:
    """Silence is a fault only while `serve` runs; a server that is not started is silent."""
    if is_held(settings.VAR_DIR / "serve.pid"):
        fix = (
            f"look into {settings.VAR_DIR / 'logs' / 'server.log'}, then restart 'manage.py serve'"
        )
        return Finding(name, ERROR, message, fix)
    return Finding(name, WARNING, f"{message} ('manage.py serve' does not run)", START)


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": check_python,
    "settings": check_settings,
    "database": check_database,
    "sqlite": check_sqlite,
    "disk": check_disk,
    "writing": check_writing,
    "clock": check_clock,
    "landlock": check_landlock,
    "gpu": check_gpu,
    "asgi": check_asgi,
    "queue": check_queue,
    "sampler": check_sampler,
}
