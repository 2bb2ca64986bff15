"""`transformers serve`, with what further options are named."""

import os
import sys
from pathlib import Path

sys.path.append(os.environ["BENCH_LIBRARIES"])

from transformers.cli.transformers import main

if __name__ == "__main__":
    port, model = os.environ["BENCH_PORT"], Path(os.environ["BENCH_MODEL"])
    Path(model.name).symlink_to(model)  # requests have to name it as it was named here
    sys.argv[:1] = ["transformers", "serve", model.name, "--port", port, "--device", "cpu"]
    main()
