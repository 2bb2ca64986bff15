"""A folder of code is scanned: by the lines of document 000, and by those of our guide."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.plane.conftest import Served
from tests.ml.serve.models import SAFE_CODE, UNSAFE_CODE
from tests.servers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("texts")]

EXAMPLE = """
from presentation.api.client import MLClient
from pathlib import Path

client = MLClient("http://your-instance:8000")

# Scan directory for security issues
code_dir = Path("src/")
vulnerable_files = []

print(f"Scanning {code_dir} for security issues...\\n")

for py_file in code_dir.rglob("*.py"):
    with open(py_file, 'r', encoding='utf-8') as f:
        code = f.read()

    # Classify
    result = client.classify_code(code, task="security")

    if result.label == "vulnerable" and result.confidence > 0.7:
        vulnerable_files.append({
            "file": str(py_file),
            "confidence": result.confidence
        })
        print(f"⚠️  {py_file} - Confidence: {result.confidence:.2%}")

print(f"\\nFound {len(vulnerable_files)} potentially vulnerable files")
"""
"""The third advanced example of document 000, as it is written there."""
CLIENT = '''
"""What document 000 tells of its client: the address, the request, results by their names."""
import json, os, types, urllib.request

class MLClient:
    def __init__(self, url):
        self.url = url

    def classify_code(self, code, task):
        request = urllib.request.Request(
            f"{self.url}/api/v1/inference/classify",
            json.dumps({"code": code, "task": task}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['KEY']}"},
        )
        return types.SimpleNamespace(**json.load(urllib.request.urlopen(request)))
'''
FILES = {
    "wipe.py": UNSAFE_CODE,
    "deep/er/add.py": SAFE_CODE,
    "marked.py": "\ufeff" + SAFE_CODE,
    "notes.txt": UNSAFE_CODE,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in FILES.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
    return tmp_path


def run(script: str, served: Served, folder: Path, *arguments: str) -> str:
    (folder / "scan.py").write_text(script, "utf-8")
    done = subprocess.run(
        [sys.executable, "scan.py", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "MLS": served.url, "KEY": served.stack.key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_scan_of_document_000_prints_what_it_prints_there(served: Served, folder: Path) -> None:
    (folder / "presentation" / "api").mkdir(parents=True)
    (folder / "presentation" / "api" / "client.py").write_text(CLIENT)
    printed = run(EXAMPLE.replace("http://your-instance:8000", served.url), served, folder)
    assert re.fullmatch(
        "Scanning src for security issues...\n\n"
        r"⚠️  src/wipe.py - Confidence: \d\d\.\d\d%" + "\n\n"
        "Found 1 potentially vulnerable files\n",
        printed,
    ), printed


def test_the_scan_of_the_guide_names_lines_and_goes_on_after_a_refusal(
    served: Served, folder: Path
) -> None:
    (folder / "src" / "long.py").write_text("x = 1\n" * 100_000)
    (folder / "src" / "strange.py").write_bytes(b"x = '\xff\x00'\n")
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs/inference.md").read_text(), re.M | re.S
    )
    [script] = [block for block in blocks if "scan.py" in block]
    printed = run(script, served, folder, "src").splitlines()
    for line in (
        r"src/deep/er/add.py: safe \(\d+%\)",
        r"src/long.py: code: .*400000.*",
        r"src/strange.py: (safe|vulnerable) \(\d+%\)",
        r"src/wipe.py: vulnerable \(\d+%\)",
        r"src/wipe.py:2: B605 \(CWE-78\) .+",
    ):
        assert any(re.fullmatch(line, each) for each in printed), (line, printed)
