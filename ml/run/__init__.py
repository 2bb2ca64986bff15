"""One-shot children: `python -P -m ml.run VERB` reads a JSON object and answers with one."""
