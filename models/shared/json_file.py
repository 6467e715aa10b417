"""JSON files of a checkpoint folder. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalkit.errors import CheckpointError


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} is no checkpoint: it has no {file.name}.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). Fetch it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no JSON object. Fetch it again.")
    return content
