"""Where the checkpoint of the miniature is. Imports no torch."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from evalkit.paths import cache_dir


def miniature() -> Path:
    """Where the miniature's checkpoint is, or will be: its name changes whenever its content would."""
    here = Path(__file__).parent
    made_by = (here / "mini.py", here.parent / "shared" / "qwen_tokenizer.py")
    version = sha256(b"".join(file.read_bytes() for file in made_by)).hexdigest()[:12]
    return cache_dir() / "models" / f"videoxl2_mini-{version}"
