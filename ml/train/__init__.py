"""The trainer process: `python -m ml.train RUN_DIR`; the only process that trains."""
