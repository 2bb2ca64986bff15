"""python -P -m ml.run VERB [--memory-bytes N] [--cpu-seconds N] < payload.json

Locks itself in before it imports anything heavy, runs one verb, and writes one JSON object to
standard output; what libraries print goes to standard error.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import IO, Any

from ml.lock import Limits, empty_environment, limit_resources, lock
from ml.run.verbs import VERBS, Verb, run_verb


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    answers = claim_stdout()
    payload = json.load(sys.stdin)
    limits = Limits(memory_bytes=options.memory_bytes, cpu_seconds=options.cpu_seconds)
    is_locked = _lock_in(VERBS.get(options.verb), payload, limits)
    json.dump(run_verb(options.verb, {**payload, "is_locked": is_locked}), answers, allow_nan=False)
    answers.close()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m ml.run", description=__doc__)
    parser.add_argument("verb")
    parser.add_argument("--memory-bytes", type=int, help="largest address space")
    parser.add_argument("--cpu-seconds", type=int, help="longest computing time")
    return parser.parse_args(arguments)


def _lock_in(verb: Verb | None, payload: dict[str, Any], limits: Limits) -> bool:
    """Whether the lock is a whole one, with files, network and processes closed."""
    if verb is None or not verb.opens_strange_files:
        empty_environment()
        limit_resources(limits)
        return False
    return lock(read=verb.reads(payload), write=verb.writes(payload), limits=limits).is_complete


def claim_stdout() -> IO[Any]:
    """Keep standard output for the answer; whatever else prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    sys.exit(main())
