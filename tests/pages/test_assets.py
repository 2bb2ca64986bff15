"""What is shipped to the browser is what was vendored, and nothing asks for another host."""

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "static" / "vendor"


def test_vendored_files_are_unchanged() -> None:
    for line in (VENDOR / "VENDORED.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_file_is_listed() -> None:
    listed = {line.split()[1] for line in (VENDOR / "VENDORED.sha256").read_text().splitlines()}
    found = {path.name for path in VENDOR.iterdir()}
    assert found - listed == {"VENDORED.sha256", "README.md"}


def test_templates_have_nothing_inline_and_no_foreign_address() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", text), path
        assert not re.search(r'(src|href)="(https?:)?//', text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert "|safe" not in text, path
