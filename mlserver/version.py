"""The version of this server, read from the newest heading of CHANGELOG.md."""

import re
from pathlib import Path


def read_version() -> str:
    text = (Path(__file__).resolve().parent.parent / "CHANGELOG.md").read_text()
    found = re.search(r"^## (\d+\.\d+\.\d+)", text, re.MULTILINE)
    if found is None:
        raise ValueError("CHANGELOG.md has no heading like '## 1.2.3'")
    return found[1]


VERSION = read_version()
