"""Datasets: what a file holds, checked and described; `load` opens a version folder for training.

Imports numpy and pyarrow, so only child processes may import it.
"""

from ml.data.content import DataError, Images, Table
from ml.data.loader import load

__all__ = ["DataError", "Images", "Table", "load"]
