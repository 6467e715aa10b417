"""Where evalkit keeps what it makes and fetches. Read when asked, not at import."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Miniatures, judge answers: `$EVALKIT_CACHE`, else ~/.cache/evalkit. Can be deleted at any time."""
    return Path(os.environ.get("EVALKIT_CACHE") or Path.home() / ".cache" / "evalkit")


def data_dir() -> Path:
    """Fetched benchmarks: `$EVALKIT_DATA`, else <cache>/data."""
    return Path(os.environ.get("EVALKIT_DATA") or cache_dir() / "data")


def hf_home() -> Path:
    """Hugging Face's folder, where other harnesses unpack their videos: `$HF_HOME`, else ~/.cache/huggingface."""
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
