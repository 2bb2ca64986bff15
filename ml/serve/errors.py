"""Why a worker does not answer with a prediction; `code` is what its reply says."""

import re
import resource

# How Python, C++, onnxruntime and PyTorch say it.
MEMORY_WORDS = re.compile(
    r"memoryerror|bad_?alloc|allocate memory|out of memory|failed to allocate", re.IGNORECASE
)


class ServeError(Exception):
    code = "failed"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInput(ServeError):
    """The request does not fit the model's signature; `field` names the input."""

    code = "invalid_input"


class TooManyRows(ServeError):
    """More rows than one request may bring."""

    code = "too_many_rows"


class QueueFull(ServeError):
    """Too much waits already: better a quick no than an answer that comes too late."""

    code = "queue_full"


class DeadlineMissed(ServeError):
    """The answer would come, or has come, later than it is of use."""

    code = "deadline_missed"


class ComputeFailed(ServeError):
    """The model gave up on this input."""

    code = "compute_failed"


class LoadRefused(ServeError):
    """The model cannot be served; the sentence says why."""

    code = "model_refused"


class ContextLengthExceeded(ServeError):
    """The text has more tokens than the model takes at once."""

    code = "context_length_exceeded"


class NotOffered(ServeError):
    """The model does not do this kind of work."""

    code = "not_offered"


def first_line(error: Exception) -> str:
    """What a library says, short enough to be told, and the limit where memory was the reason."""
    told = (str(error).strip() or type(error).__name__).splitlines()[0][:500]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not MEMORY_WORDS.search(told):
        return told
    return f"it needs more memory than it may have ({limit / 10**6:,.0f} MB): {told}"
