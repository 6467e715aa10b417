"""One exception tree. Each message says what is wrong, where, and what to do next.

    EvalkitError                 a mistake in the command, the data or the machine; shown as one message, exit code 1
    ├── ConfigError              a setting that cannot work
    ├── DataError                annotations or videos that are missing, short or malformed
    ├── CheckpointError          weights that are missing, unknown or of another shape
    ├── RunError                 a run folder that cannot be used: locked, not writable, made by other code
    └── SampleError              costs one video or one question, never the run; marked in its records
        ├── VideoError           a video that cannot be opened, decoded or sampled
        └── ModelError           the model failed on this input (out of memory, say)
            └── ModelUnavailable the model itself failed (a bad key, a dead server); several in a row stop the run

Programming errors stay what they are (`assert`, `TypeError`, ...) and keep their traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EvalkitError(Exception):
    """A user's mistake or the machine's; `str(error)` is complete by itself."""


class ConfigError(EvalkitError):
    pass


class DataError(EvalkitError):
    pass


class CheckpointError(EvalkitError):
    pass


class RunError(EvalkitError):
    pass


class SampleError(EvalkitError):
    """Costs one video or question. `kind` is a short machine-readable cause such as "missing" or "out_of_memory"."""

    def __init__(self, message: str, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str]]:  # crosses process boundaries whole
        return type(self), (str(self), self.kind)


class VideoError(SampleError):
    """kind: missing, unreadable, empty, not_video, no_video_stream, damaged, too_short, timeout or decoder_crash."""


class ModelError(SampleError):
    """kind: out_of_memory, too_long, no_selection, unavailable or failed."""


class ModelUnavailable(ModelError):
    """Every further question would fail in the same way. Its message says what to do."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """' Did you mean "x"?' or '' — for messages about misspelt names."""
    near = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f' Did you mean "{near[0]}"?' if near else ""
