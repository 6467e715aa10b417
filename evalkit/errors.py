"""The exceptions of evalkit. Each message says what is wrong, where, and what to do next.

    EvalkitError                 a mistake in the command, the data or the machine: one message, exit code 1
    ├── ConfigError              a setting that cannot work
    ├── DataError                annotations or videos that are missing, incomplete or malformed
    ├── CheckpointError          weights that are missing, unknown or of the wrong shape
    ├── RunError                 a run folder that cannot be used: locked, not writable, made by other code
    └── SampleError              fails one video or one question, not the run; the records say so
        ├── VideoError           a video that cannot be opened, decoded or sampled
        └── ModelError           the model failed on this input (out of memory, for example)
            └── ModelUnavailable the model itself failed (a bad key, a dead server); several in a row stop the run

Programming errors stay what they are (`assert`, `TypeError`, ...) and keep their traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

DISTRIBUTION = "evalkit-video"
"""The name that pip installs. It differs from the import name because `evalkit` on PyPI is another project."""


class EvalkitError(Exception):
    """A mistake of the user or a fault of the machine. `str(error)` is the complete message."""


class ConfigError(EvalkitError):
    """A setting that cannot work."""


class DataError(EvalkitError):
    """Annotations or videos that are missing, incomplete or malformed."""


class CheckpointError(EvalkitError):
    """Weights that are missing, unknown or of the wrong shape."""


class RunError(EvalkitError):
    """A run folder that cannot be used."""


class SampleError(EvalkitError):
    """Fails one video or one question. `kind` is a short machine-readable cause such as "missing"."""

    def __init__(self, message: str, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str]]:  # so that pickling keeps `kind`
        return type(self), (str(self), self.kind)


class VideoError(SampleError):
    """kind: missing, unreadable, empty, not_video, no_video_stream, damaged, too_short, timeout or decoder_crash."""


class ModelError(SampleError):
    """kind: out_of_memory, too_long, no_selection, unavailable or failed."""


class ModelUnavailable(ModelError):
    """Every further question would fail in the same way. Its message says what to do."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """' Did you mean "x"?' for a misspelt name, or '' if no choice is close."""
    near = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f' Did you mean "{near[0]}"?' if near else ""


def install_hint(extra: str) -> str:
    """The command that installs an optional dependency: "pip install 'evalkit-video[ray]'"."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
