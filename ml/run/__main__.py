"""python -P -m ml.run VERB [--memory-bytes N] [--cpu-seconds N] < payload.json

Limits itself before it imports anything heavy, runs one verb, and writes one JSON object to
standard output; what libraries print goes to standard error.
"""

import argparse
import json
import os
import resource
import sys
from collections.abc import Sequence
from typing import IO, Any


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    limit_resources(options.memory_bytes, options.cpu_seconds)
    answers = claim_stdout()
    payload = json.load(sys.stdin)

    from ml.run.verbs import run_verb  # after the limits: verbs import numpy and more

    json.dump(run_verb(options.verb, payload), answers, allow_nan=False)
    answers.close()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m ml.run", description=__doc__)
    parser.add_argument("verb")
    parser.add_argument("--memory-bytes", type=int, help="largest address space")
    parser.add_argument("--cpu-seconds", type=int, help="longest computing time")
    return parser.parse_args(arguments)


def limit_resources(memory_bytes: int | None, cpu_seconds: int | None) -> None:
    """What a stranger's file may cost; set by the child itself, before any import of weight."""
    # Libraries of linear algebra reserve memory for each thread, which counts as used.
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if cpu_seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))


def claim_stdout() -> IO[Any]:
    """Keep standard output for the answer; whatever else prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    sys.exit(main())
