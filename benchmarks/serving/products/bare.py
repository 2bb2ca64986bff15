"""onnxruntime and nothing else: rows a second at a batch size; prints JSON."""

import json
import os
import sys
import time

import numpy as np
import onnxruntime

path, shape, rows, seconds = (
    sys.argv[1],
    json.loads(sys.argv[2]),
    int(sys.argv[3]),
    float(sys.argv[4]),
)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = os.cpu_count() or 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(path, options)
batch = np.random.default_rng(0).standard_normal((rows, *shape)).astype(np.float32)
for _ in range(3):
    session.run(None, {"x": batch})
count, started = 0, time.perf_counter()
while time.perf_counter() - started < seconds:
    session.run(None, {"x": batch})
    count += rows
print(json.dumps(count / (time.perf_counter() - started)))
