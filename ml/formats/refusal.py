"""The one error of everything here that looks at a model which somebody brought."""

from pathlib import Path

from ml.formats.header import Header, HeaderError, read_header


class ModelRefused(Exception):
    """The model cannot be taken; the message says which file, why, and what to do instead."""

    def __init__(self, message: str, *, code: str = "model_refused") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def check_weights(path: Path) -> Header:
    """The header of a safetensors file; raises ModelRefused."""
    try:
        return read_header(path)
    except HeaderError as error:
        raise ModelRefused(f"{path.name} is no sound safetensors file: {error}.") from error
