"""Folders of evalkit and of Hugging Face. The environment is read at each call, not at import."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Miniatures and replies of judges: `$EVALKIT_CACHE`, else ~/.cache/evalkit. It can be deleted at any time."""
    return Path(os.environ.get("EVALKIT_CACHE") or Path.home() / ".cache" / "evalkit")


def data_dir() -> Path:
    """Fetched benchmarks: `$EVALKIT_DATA`, else <cache>/data."""
    return Path(os.environ.get("EVALKIT_DATA") or cache_dir() / "data")


def hf_home() -> Path:
    """Hugging Face's folder, below which other harnesses unpack videos: `$HF_HOME`, else ~/.cache/huggingface."""
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")


def benchmark_folders(folder: str) -> list[Path]:
    """The folders in which a benchmark from the hub may be, in order of preference: where `fetch` unpacks it, and where
    lmms-eval does (below `datasets/` for LongVideoBench since 2026)."""
    return [data_dir() / folder, hf_home() / folder, hf_home() / "datasets" / folder]
