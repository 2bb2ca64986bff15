"""Settings as real processes read them from their environment."""

import json
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT, environment, run_django
from tests.waiting import PATIENCE_SECONDS

PROCESSES, FOLDERS = 4, 200
# All wait until all are there, and then go through the same empty folders together.
ASK_TOGETHER = """
import json, pathlib, sys
from mlserver import settings
root = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while not (root / "go").exists():
    pass
keys = []
for number in range(int(sys.argv[2])):
    settings.VAR_DIR = root / str(number)
    keys.append(settings._embedded_secret_key())
print(json.dumps(keys))
"""


def test_processes_that_start_first_together_have_one_secret_key(tmp_path: Path) -> None:
    for number in range(FOLDERS):
        (tmp_path / str(number)).mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK_TOGETHER, str(tmp_path), str(FOLDERS)],
            cwd=ROOT,
            env=environment(tmp_path / "var"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    keys = [json.loads(process.communicate(timeout=PATIENCE_SECONDS)[0]) for process in processes]

    assert all(each == keys[0] for each in keys)
    assert len(set(keys[0])) == FOLDERS
    for number, key in enumerate(keys[0]):
        file = tmp_path / str(number) / "secret_key"
        assert list(file.parent.iterdir()) == [file]
        assert (file.read_text(), file.stat().st_mode & 0o777) == (key, 0o600)


def test_max_concurrent_jobs_is_the_number_of_workers_for_short_errands(tmp_path: Path) -> None:
    code = "import json\nfrom django_q.conf import Conf\nprint(json.dumps(Conf.WORKERS))"
    assert run_django(code, environment(tmp_path, MAX_CONCURRENT_JOBS="3")) == 3
    gpu = environment(tmp_path, MAX_CONCURRENT_JOBS="3", Q_CLUSTER_NAME="gpu")
    assert run_django(code, gpu) == 2
