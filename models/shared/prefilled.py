"""Prefilled videos on disk: what settings that differ in bi-level decode alone can share.

A file holds the un-rotated keys and the values of a context, exactly as they were computed, and what the prefill cost.
Its name hashes all that a prefill depends on, so a stale one is never read. Written whole or not at all; the least
recently used files go when the folder grows beyond its cap. Safe for several processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evalkit.types import PrefillCost

from .kv_store import KVStore
from .layout import Layout


@dataclass
class Prefilled:
    """`folder` of at most `cap_bytes`."""

    folder: Path
    cap_bytes: int

    def path(self, depends_on: Mapping[str, Any]) -> Path:
        """Where the prefill that depends on these things is kept."""
        text = json.dumps({**depends_on, "torch": torch.__version__}, sort_keys=True, default=str)
        return self.folder / f"{sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def load(self, path: Path, store: KVStore[Layout]) -> PrefillCost | None:
        """Fill an empty store; None where there is no such file, or a damaged one, which is then made anew."""
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["about"])
                store.reserve(layout := Layout(**about["layout"]))
                for name, rows in store.rows.items():
                    assert rows.unrotated is not None, "only un-rotated keys are shared"
                    count = rows.count = file.get_slice(f"{name}.values").get_shape()[2]
                    rows.values[:, :, :count].copy_(file.get_tensor(f"{name}.values"))
                    rows.unrotated[:, :, :count].copy_(file.get_tensor(f"{name}.keys"))
                    rows.positions[:count].copy_(file.get_tensor(f"{name}.positions"))
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, ValueError):
            path.unlink(missing_ok=True)
            store.commit(Layout())
            return None
        store.commit(layout)
        store.forget_rotated()
        os.utime(path)
        return PrefillCost(**about["cost"])

    def save(self, path: Path, store: KVStore[Layout], cost: PrefillCost) -> str:
        """Keep a store whose rotated keys are forgotten; returns what went wrong. An answer does not depend on it."""
        tensors = {}
        for name, rows in store.rows.items():
            assert rows.unrotated is not None and rows.rotated is None
            for what, kept in (("values", rows.values), ("keys", rows.unrotated)):
                tensors[f"{name}.{what}"] = kept[:, :, : rows.count].cpu().contiguous()
            tensors[f"{name}.positions"] = rows.positions[: rows.count].contiguous()
        layout = store.layout
        counts = {"prefix": layout.prefix, "tail": layout.tail, "text": layout.text, "visual": layout.visual}
        about = {"about": json.dumps({"layout": counts, "cost": asdict(cost)})}
        whole = path.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                save_file(tensors, whole, metadata=about)
                whole.replace(path)
            finally:
                whole.unlink(missing_ok=True)
            self._evict(path)
        except (OSError, SafetensorError) as error:
            return f"kv_store.folder={self.folder} cannot be written ({error}): this prefill is not kept"
        return ""

    def _evict(self, newest: Path) -> None:
        """Remove the least recently used files beyond the cap; never the one just written."""
        kept = []
        for file in self.folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):  # other processes evict too
                kept.append((file.stat(), file))
        total = 0
        for status, file in sorted(kept, key=lambda pair: -pair[0].st_mtime):
            total += status.st_size
            if total > self.cap_bytes and file != newest:
                file.unlink(missing_ok=True)
