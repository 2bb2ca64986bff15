"""The examples of README.md and docs/ against a real server: what a reader types must work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, Stack

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docs"), pytest.mark.timeout(900)]

# Each may use what is before it.
GUIDE = [
    "first-steps",
    "datasets",
    "training",
    "models",
    "inference",
    "keys",
    "remote-ml-api",
    "operating",
]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def examples(page: Path) -> str:
    return "\n".join(BLOCK.findall(page.read_text()))


def run_shell(script: str, stack: Stack, folder: Path) -> str:
    """What it prints; a command that fails unexpectedly fails the test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "MLS": stack.url, "KEY": stack.key},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_tour_of_the_readme_ends_with_a_prediction(stack: Stack, tmp_path: Path) -> None:
    printed = run_shell(examples(ROOT / "README.md"), stack, tmp_path)
    assert "event: epoch" in printed
    assert "'label': 'setosa'" in printed.splitlines()[-1]


def test_the_guide_can_be_followed_from_top_to_bottom(stack: Stack, tmp_path: Path) -> None:
    pages = [ROOT / "docs" / f"{name}.md" for name in GUIDE]
    printed = run_shell("\n".join(map(examples, pages)), stack, tmp_path)
    for expected in (
        "did you mean 'search'?",
        "did you mean 'learning_rate'?",
        '"code":"protected"',
        '"status":401',
        '"status":403',
        "['area', 'rooms'] -> rent",
        "event: done",
        '"object":"text_completion"',
    ):
        assert expected in printed


@pytest.mark.parametrize("text", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_no_link_is_dead(text: Path) -> None:
    for target in LINK.findall(text.read_text()):
        assert (text.parent / target).exists(), f"{text.name} links to {target}"


def test_every_page_of_the_guide_is_run() -> None:
    with_examples = {page.stem for page in (ROOT / "docs").glob("*.md") if examples(page)}
    assert with_examples == set(GUIDE)
