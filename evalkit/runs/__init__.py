"""Run folders: writing them, reading them, and what they hold. See `evalkit.runs.folder`."""

from .files import slug, write_atomically, writing
from .folder import RunFolder, run_key
from .lines import FORMAT, read_lines, to_line
from .reading import LinesAt, StoredRun, read_records, read_run

__all__ = [
    "FORMAT",
    "LinesAt",
    "RunFolder",
    "StoredRun",
    "read_lines",
    "read_records",
    "read_run",
    "run_key",
    "slug",
    "to_line",
    "write_atomically",
    "writing",
]
