"""Asks every operation of the REST API nonsense made from its own OpenAPI document (schemathesis).

    python -m benchmarks.fuzz_api --cases 40 --seed 1 [--database-url postgres://…]

No answer may be a 5xx: bad input is the caller's, and gets a sentence. Goal: 3,000 cases.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.servers import Stack, serving_web

# Streams answer until the client goes; /health/ready rightly says 503 where no queue runs.
LEFT_OUT = "(events|stream|health/ready)/?$"


def fuzz(stack: Stack, report: Path, *, cases: int, seed: int, seconds: int | None = None) -> int:
    """At most `cases` an operation and phase; the exit code of schemathesis, 0 without a 5xx."""
    limit = ["--max-time", str(seconds)] if seconds else []
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{stack.url}/openapi.json"),
        *("--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(cases), "--seed", str(seed), "--exclude-path-regex", LEFT_OUT),
        *("--header", f"Authorization: Bearer {stack.key}", "--suppress-health-check", "all"),
        *("--request-timeout", "20", "--warnings", "off", "--continue-on-failure"),
        *("--report-json-path", str(report), "--no-shrink", *limit),
    ]
    return subprocess.run(command, check=False, cwd=report.parent).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40, help="an operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", default="", help="default: SQLite")
    options = parser.parse_args()
    more = {"LOG_LEVEL": "ERROR"}
    if options.database_url:
        more["DATABASE_URL"] = options.database_url
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        report = Path(folder) / "report.json"
        with serving_web(Path(folder) / "var", **more) as stack:
            code = fuzz(stack, report, cases=options.cases, seed=options.seed)
        found: dict[str, Any] = json.loads(report.read_text())
    counts = {**found["test_cases"], "operations": found["operations"]["tested"]}
    print("| what | count |\n|---|---|")
    for what, count in counts.items():
        print(f"| {what} | {count} |")
    return code


if __name__ == "__main__":
    sys.exit(main())
