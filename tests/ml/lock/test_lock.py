"""Code that runs inside a locked process, as an attacker's would: what it cannot do.

Each attack is tried without the lock first and succeeds, so that a test which passes means that
the lock stopped it.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml.lock import InForce, landlock

LOCK = """
import ctypes, json, os, sys
from pathlib import Path
from ml.lock import Limits, landlock, lock
facts = json.loads(sys.argv[1])
if facts["version"] is not None:
    landlock.find_version = lambda: facts["version"]
if facts["locked"]:
    limits = Limits(memory_bytes=2 * 2**30, cpu_seconds=60, file_bytes=2**20)
    lock(read=[Path(facts["input"])], write=[Path(facts["output"])], limits=limits)
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""
# name: (the attack, whether it takes Landlock to stop it)
ATTACKS = {
    "read a file": ("open(facts['secret']).read()", True),
    "list a folder": ("os.listdir(facts['outside'])", True),
    "read the environment of another": ("open(f'/proc/{facts[\"victim\"]}/environ').read()", True),
    "write a file": ("open(facts['outside'] + '/new', 'w')", True),
    "write into the input": ("open(facts['input'] + '/new', 'w')", True),
    "change a file": ("open(facts['secret'], 'a')", True),
    "delete a file": ("os.unlink(facts['secret'])", True),
    "move a file away": ("os.rename(facts['secret'], facts['output'] + '/taken')", True),
    "link to a file": ("os.link(facts['secret'], facts['output'] + '/taken')", True),
    "make a symbolic link": ("os.symlink('/', facts['output'] + '/root')", True),
    "make a device": ("os.mkfifo(facts['output'] + '/pipe')", True),
    "cut a file off": ("os.truncate(facts['secret'], 0)", False),
    "open a file to everybody": ("os.chmod(facts['secret'], 0o777)", False),
    "call out over TCP": (
        "import socket; socket.create_connection(('127.0.0.1', facts['port']), 5)", False),
    "open a socket of this machine": ("import socket; socket.socket(socket.AF_UNIX)", False),
    "run a program": ("os.execv('/bin/true', ['true'])", False),
    "start a process": ("os.fork() or os._exit(0)", False),
    "start a program": ("import subprocess; subprocess.run(['/bin/true'], check=True)", False),
    "end a process": ("os.kill(facts['victim'], 9)", False),
    "look into a process": ("check(libc.ptrace(0x4206, facts['victim'], None, None))", False),
    "limit another process": (
        "import resource; resource.prlimit(facts['victim'], resource.RLIMIT_NOFILE)", False),
    "write a large file": ("open(facts['output'] + '/new', 'wb').write(bytes(2**21))", False),
    "take much memory": ("bytearray(3 * 2**30)", False),
}  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """An input and an output folder, a secret beside them, a process and a server to attack."""
    for name in ("input", "output", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "input" / "file").write_text("given")
    secret = tmp_path / "outside" / "secret"
    secret.write_text("s3cret")
    victim = subprocess.Popen(["/bin/sleep", "300"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {
            "input": str(tmp_path / "input"),
            "output": str(tmp_path / "output"),
            "outside": str(tmp_path / "outside"),
            "secret": str(secret),
            "victim": victim.pid,
            "port": server.getsockname()[1],
            "locked": True,
            "version": None,
        }
    victim.kill()
    victim.wait()


def attempt(scene: dict[str, Any], code: str, **changed: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", f"{LOCK}\n{code}", json.dumps(scene | changed)],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONSAFEPATH": "1", "SECRET_KEY": "s3cret"},
        timeout=60,
        check=False,
    )


needs_landlock = pytest.mark.skipif(not landlock.find_version(), reason="no Landlock here")


@needs_landlock
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_succeeds_without_the_lock_is_stopped_by_it(
    scene: dict[str, Any], name: str
) -> None:
    code, _ = ATTACKS[name]
    locked = attempt(scene, code)
    assert locked.returncode == 1, locked
    last = locked.stderr.splitlines()[-1]
    assert last.startswith(
        ("PermissionError", "MemoryError", "OSError: [Errno 27]", "OSError: [Errno 18]")
    ), last

    unlocked = attempt(scene, code, locked=False)
    assert unlocked.returncode == 0, unlocked.stderr


@needs_landlock
@pytest.mark.parametrize("version", range(1, landlock.find_version() + 1))
def test_every_version_of_landlock_closes_the_files(scene: dict[str, Any], version: int) -> None:
    code, _ = ATTACKS["read a file"]
    done = attempt(scene, code, version=version)
    assert done.stderr.splitlines()[-1].startswith("PermissionError")


@pytest.mark.parametrize("name", [name for name, (_, needs) in ATTACKS.items() if not needs])
def test_without_landlock_the_rest_still_holds(scene: dict[str, Any], name: str) -> None:
    assert attempt(scene, ATTACKS[name][0], version=0).returncode == 1


def test_a_locked_process_can_do_its_work(scene: dict[str, Any]) -> None:
    work = """
import threading
folder = Path(facts["output"])
(folder / "part").mkdir()
(folder / "part" / "a").write_text(open(facts["input"] + "/file").read())
(folder / "part" / "a").rename(folder / "b")
(folder / "part").rmdir()
thread = threading.Thread(target=lambda: print(sorted(os.environ)))
thread.start(); thread.join()
import numpy, pyarrow.parquet, PIL.Image
print((folder / "b").read_text(), numpy.ones(3).sum())
"""
    done = attempt(scene, work)
    assert done.returncode == 0, done.stderr
    names, result = done.stdout.splitlines()
    assert "SECRET_KEY" not in names
    assert result == "given 3.0"


def test_what_it_tells_beforehand_is_what_is_in_force_then(scene: dict[str, Any]) -> None:
    code = "from ml.lock import find_guards; told = find_guards(); print(told == lock(), told)"
    assert attempt(scene, code, locked=False).stdout.startswith("True InForce(")


def test_it_tells_what_is_in_force(scene: dict[str, Any]) -> None:
    done = attempt(scene, "print(lock().__dict__)", version=0)
    assert done.stdout.strip() == "{'landlock': 0, 'seccomp': True}"
    assert not InForce(landlock=0, seccomp=True).is_complete
    assert InForce(landlock=1, seccomp=True).is_complete


def test_a_process_that_aborts_is_seen_to_abort(scene: dict[str, Any]) -> None:
    assert attempt(scene, "os.abort()").returncode == -6


def test_threads_cannot_be_made_without_end(scene: dict[str, Any]) -> None:
    bomb = """
import threading
def wait(): threading.Event().wait()
try:
    for count in range(100_000): threading.Thread(target=wait, daemon=True).start()
except (RuntimeError, MemoryError):
    os.write(1, str(count).encode())
    os._exit(0)
"""
    done = attempt(scene, bomb)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000
