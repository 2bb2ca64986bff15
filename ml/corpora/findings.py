"""What Bandit's rules find in Python files: line, rule, CWE, severity and a sentence."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    line: int
    rule: str
    """Bandit's own id, as B608."""
    cwe: str
    severity: str
    """low, medium or high."""
    sentence: str

    @property
    def is_serious(self) -> bool:
        return self.severity in ("medium", "high")


def scan(files: Iterable[Path]) -> dict[Path, list[Finding]]:
    """Findings of each file that has any. Comments that tell Bandit to look away are not heeded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how Bandit loads its own rules
        from bandit.core.config import BanditConfig  # takes a second to import
        from bandit.core.manager import BanditManager

    manager = BanditManager(BanditConfig(), "file", quiet=True, ignore_nosec=True)
    manager.files_list = [str(path) for path in files]
    manager.run_tests()
    found: dict[Path, list[Finding]] = defaultdict(list)
    for issue in manager.results:
        finding = Finding(
            line=issue.lineno,
            rule=issue.test_id,
            cwe=f"CWE-{issue.cwe.id}",
            severity=issue.severity.lower(),
            sentence=issue.text,
        )
        found[Path(issue.fname)].append(finding)
    return dict(found)
