"""transformers and nothing else: texts a second in batches of so many, the best of one thread and
of all, and the milliseconds of one token alone; prints both as JSON."""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from texts import open_model, open_writer

folder, rows, seconds = Path(os.environ["BENCH_MODEL"]), int(sys.argv[1]), float(sys.argv[2])
asked = list(json.loads((folder / "asked.json").read_bytes()))
answer = open_model()
rates = []
for threads in {1, os.cpu_count() or 1}:
    torch.set_num_threads(threads)
    answer(asked[:rows])
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds / 2:
        answer([asked[(count + row) % len(asked)] for row in range(rows)])
        count += rows
    rates.append(count / (time.perf_counter() - started))

torch.set_num_threads(os.cpu_count() or 1)
first = open_writer(folder, 1) if folder.name.startswith("writer") else answer
taken = []
for text in asked[:10]:
    started = time.perf_counter()
    first([text])
    taken.append((time.perf_counter() - started) * 1000)
print(json.dumps({"rate": max(rates), "first_ms": statistics.median(taken)}))
