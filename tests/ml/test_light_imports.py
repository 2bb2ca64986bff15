"""Django imports parts of ml: those must stay free of torch and numpy, in a fresh interpreter."""

import subprocess
import sys

SCRIPT = """
import sys
import ml.config, ml.exits, ml.launch, ml.rundir, ml.text_fields
heavy = {"torch", "numpy", "pyarrow", "sklearn", "safetensors", "django"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_the_light_modules_import_nothing_heavy() -> None:
    child = subprocess.run([sys.executable, "-P", "-c", SCRIPT], capture_output=True, check=False)
    assert child.returncode == 0, child.stderr


NETWORK = """
import sys
import ml.train.__main__, ml.train.recipes.network
slow = {"transformers", "peft", "tokenizers", "sklearn"} & set(sys.modules)
sys.exit(f"imported {slow}" if slow else 0)
"""


def test_a_network_starts_without_the_libraries_of_other_recipes() -> None:
    child = subprocess.run([sys.executable, "-P", "-c", NETWORK], capture_output=True, check=False)
    assert child.returncode == 0, child.stderr
