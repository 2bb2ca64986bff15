"""What must not be imported where: by contract, by process, by name."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlserver.version import VERSION
from tests.servers import ROOT, environment, run_django

PACKAGES = [
    "mlserver",
    "jobs",
    "accounts",
    "datasets",
    "models_registry",
    "sessions",
    "inference",
    "monitoring",
    "ml",
]
# One violation a contract: the file that gets the line, the line, the contract that must break.
PLANTED = [
    ("datasets/services.py", "import sessions.models", "layers"),
    ("models_registry/services.py", "import datasets.models", "layers"),
    ("jobs/services.py", "import monitoring.models", "layers"),
    ("accounts/services.py", "import jobs.models", "layers"),
    ("mlserver/lib/errors.py", "import accounts.models", "layers"),
    ("jobs/models.py", "import jobs.services", "inside an app"),
    ("inference/services.py", "import sessions.models", "layers"),
    ("inference/services.py", "import ml.serve.tensors", "heavy"),
    ("ml/config/__init__.py", "import django", "ml knows nobody"),
    ("sessions/services.py", "def late() -> None:\n    import torch", "heavy"),
    ("sessions/services.py", "import ml.train.loop", "heavy"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tree), "COLUMNS": "200"},
    )


@pytest.mark.xdist_group("contracts")
def test_every_contract_is_kept(tree: Path) -> None:
    done = lint_imports(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.xdist_group("contracts")
@pytest.mark.parametrize(("file", "line", "contract"), PLANTED)
def test_a_planted_violation_breaks_its_contract(
    tree: Path, file: str, line: str, contract: str
) -> None:
    path = tree / file
    whole = path.read_text()
    path.write_text(f"{whole}\n{line}\n")
    try:
        done = lint_imports(tree)
    finally:
        path.write_text(whole)
    broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), done.stdout


def test_no_django_process_imports_a_heavy_library(tmp_path: Path) -> None:
    everything = (
        f"PACKAGES = {PACKAGES[:-1]}"
        + """
import importlib, json, pkgutil, sys
import mlserver.urls, mlserver.asgi
for name in PACKAGES:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
heavy = ("torch", "sklearn", "numpy", "scipy", "pyarrow", "transformers", "onnxruntime")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    )
    assert run_django(everything, environment(tmp_path)) == []


# One write for a whole line: two ranks share the pipe.
RESOLVE = (
    "import importlib.util, os; found = importlib.util.find_spec('datasets');"
    " os.write(1, f'{found and found.origin}\\n'.encode())"
)


def child_environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1"}


def test_no_child_resolves_datasets_to_the_app(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", RESOLVE],
        cwd=tmp_path,
        env=child_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert str(ROOT) not in done.stdout


@pytest.mark.slow
def test_no_rank_of_torchrun_resolves_datasets_to_the_app(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RESOLVE)
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            "--standalone",
            str(script),
        ],
        cwd=tmp_path,
        env={**child_environment(), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["None", "None"], done.stdout


def test_the_version_is_the_same_in_both_places() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
