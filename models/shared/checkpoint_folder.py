"""Where a checkpoint is, and what identifies it. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from evalkit.errors import CheckpointError

from .generation_config import GENERATION_CONFIG, GenerationConfig, read_generation_config

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
WANTED = ["*.json", "*.safetensors", "merges.txt", "vocab.txt"]
"""Files of a hub repository that are read. Its code is not."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(checkpoint: str) -> Path | None:
    """The folder that `checkpoint` names, or None where it is a hub id."""
    path = Path(checkpoint).expanduser()
    if checkpoint and path.is_dir():
        return path
    if path.is_file():
        raise CheckpointError(
            f"checkpoint={checkpoint} is a file: name the folder that holds config.json and the weights."
        )
    if not _HUB_ID.fullmatch(checkpoint) or checkpoint.startswith("."):
        raise CheckpointError(
            f'checkpoint="{checkpoint}": there is no such folder, and it is no hub id (<owner>/<name>).'
        )
    return None


def resolve(checkpoint: str, revision: str | None = None) -> Path:
    """The checkpoint's folder on this machine, fetched from the hub if it is not there. Raises CheckpointError."""
    folder = local_folder(checkpoint)
    if folder is not None:
        if revision is not None:
            raise CheckpointError(f"revision={revision} means nothing for the folder {folder}: leave it out.")
        return folder
    try:
        return Path(huggingface_hub.snapshot_download(checkpoint, revision=revision, allow_patterns=WANTED))
    except (httpx.HTTPError, EntryNotFoundError, HFValidationError, OSError) as error:
        # no network, offline mode, no such repository or revision, gated, no space
        at = f"{checkpoint} at revision {revision}" if revision else checkpoint
        raise CheckpointError(
            f"{at} is not on this machine and cannot be fetched ({type(error).__name__}: {_first_line(error)}). Run "
            f"`hf download {checkpoint}` where there is network, or set model.checkpoint=<folder> to a copy."
        ) from error


def cached(checkpoint: str, revision: str | None = None) -> Path | None:
    """The checkpoint's folder if it is on this machine; never goes to the network."""
    folder = local_folder(checkpoint)
    if folder is not None:
        return folder
    config = huggingface_hub.try_to_load_from_cache(checkpoint, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def generation_config(checkpoint: str, revision: str | None, fetch: bool) -> GenerationConfig:
    """The checkpoint's own settings of token generation; with `fetch`, that one file is downloaded if it is not here.
    The defaults where there is none, or none can be had. Raises CheckpointError for a damaged file."""
    folder = cached(checkpoint, revision)
    if folder is None or (folder.parent.name == "snapshots" and not (folder / GENERATION_CONFIG).is_file()):
        if not fetch:
            return read_generation_config(folder) if folder else GenerationConfig()
        try:
            file = huggingface_hub.hf_hub_download(checkpoint, GENERATION_CONFIG, revision=revision)
        except (httpx.HTTPError, EntryNotFoundError, HFValidationError, OSError):
            return GenerationConfig()  # the repository has none; or it cannot be reached, which `resolve` reports
        folder = Path(file).parent
    return read_generation_config(folder)


def provenance(checkpoint: str, revision: str | None = None) -> dict[str, Any]:
    """What identifies the weights: the hub's commit, the hash of configuration and index, all file sizes, and the
    checkpoint's own settings of token generation. Raises CheckpointError."""
    known: dict[str, Any] = {"checkpoint": checkpoint}
    folder = cached(checkpoint, revision)
    if folder is None:
        return known | {"revision": revision}
    if folder.parent.name == "snapshots":
        known["revision"] = folder.name
    digest = sha256()
    for name in ("config.json", INDEX):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    known["config_sha256"] = digest.hexdigest()
    known["generation"] = asdict(read_generation_config(folder))
    known["files"] = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
    return known


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
