"""`manage.py doctor`: looks at the machine and the set-up, says what to mend.

It changes nothing but that it puts a canary into the queue of a cluster that was silent.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from mlserver.doctor import ERROR, OK, SKIPPED, WARNING, Finding, as_json, examine, worst

SUMMARY = {
    OK: "All is well.",
    WARNING: "It works; what is marked 'warning' could be better.",
    ERROR: "What is marked 'error' must be mended.",
}


class Command(BaseCommand):
    help = (
        "Examines Python, the database, disks, the clock, GPUs with their driver and torch, and "
        "whether the services of the server give signs of life. Every finding has a stable id "
        "and, where something is wrong, how to mend it. Exit code: 0 when nothing is wrong (a "
        "warning is allowed), 1 when something must be mended."
    )
    requires_system_checks: list[str] = []  # they are one of the findings

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine()
        if options["json"]:
            self.stdout.write(json.dumps(as_json(findings), indent=2))
        else:
            for finding in findings:
                self._tell(finding)
            self.stdout.write(SUMMARY[worst(findings)])
        if worst(findings) == ERROR:
            sys.exit(1)

    def _tell(self, finding: Finding) -> None:
        styles = {OK: self.style.SUCCESS, WARNING: self.style.WARNING, ERROR: self.style.ERROR}
        style = styles.get(finding.status, str)
        self.stdout.write(f"{style(f'{finding.status:8}')} {finding.id:9} {finding.message}")
        if finding.fix and finding.status != SKIPPED:
            self.stdout.write(f"{'':18} → {finding.fix}")
