"""Finds the tables of benchmarks in the caches of Hugging Face's libraries, where they are read without a copy.

lmms-eval unpacks a benchmark's archives below `$HF_HOME/<folder>` and leaves its tables in two caches beside it: the
repository's snapshot (`$HF_HOME/hub`) and the Arrow files that `datasets.load_dataset` made of it
(`$HF_HOME/datasets`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from evalkit.files import find_tables
from evalkit.paths import hf_home
from evalkit.task import HubData


def cached_tables(root: Path, hub: HubData, named: Sequence[str], split: str, config: str = "*") -> list[Path]:
    """The tables of a benchmark whose videos are in `root`, a folder below `$HF_HOME`; empty for any other root.

    `named`: patterns of the files in the repository; `config` and `split`: their names on the hub; "*" where the
    repository has one configuration.
    """
    if not root.resolve().is_relative_to(hf_home().resolve()):
        return []
    for repo in (repo for part in (hub, *hub.also) for repo in part.repos):
        for snapshot in _snapshots(repo):
            if tables := find_tables(snapshot, named):
                return tables
        if tables := _arrow_tables(repo, config, split):
            return tables
    return []


def _snapshots(repo: str) -> Iterator[Path]:
    """The snapshots of a repository, the newest first."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    folder = Path(named or hf_home() / "hub") / f"datasets--{repo.replace('/', '--')}" / "snapshots"
    yield from _newest_first(path for path in folder.glob("*") if path.is_dir())


def _arrow_tables(repo: str, config: str, split: str) -> list[Path]:
    """`<org>___<name>/<config>/<version>/<hash>/<name>-<split>[-00000-of-00002].arrow`, of the newest hash."""
    folder = Path(os.environ.get("HF_DATASETS_CACHE") or hf_home() / "datasets")
    shard = re.compile(rf"-{re.escape(split)}(-\d{{5}}-of-(\d{{5}}))?\.arrow")
    for made in _newest_first(
        path
        for dataset in folder.glob("*___*")
        if _letters(dataset.name) == _letters(repo)
        for path in dataset.glob(f"{config}/*/*")
    ):
        found = sorted((path, match) for path in made.glob("*.arrow") if (match := shard.search(path.name)))
        if found and len(found) == int(found[0][1][2] or 1):
            return [path for path, _ in found]
    return []


def _newest_first(folders: Iterator[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _letters(name: str) -> str:
    """A form that is the same for `lmms-lab/Video-MME` and `lmms-lab___video-mme`, its name in the cache."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
