"""Prefilled videos on disk, for settings that differ in bi-level decode only.

An entry of the folder cache holds the un-rotated keys and the values of a context, exactly as they were computed, and
the cost of the prefill. Its key hashes all that a prefill depends on, so an outdated one is never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.folder_cache import DamagedEntry, Entry, FolderCache
from evalkit.types import PrefillCost

from .kv_store import KVStore
from .layout import Layout


@dataclass
class Prefilled:
    """`folder` with at most `cap_bytes` of entries. `remark` says what went wrong with the entry used last, or ''."""

    folder: Path
    cap_bytes: int
    remark: str = ""

    @property
    def cache(self) -> FolderCache:
        return FolderCache(self.folder, self.cap_bytes, ".prefill")

    def path(self, depends_on: Mapping[str, Any]) -> Path:
        """Where the prefill that depends on these things is stored."""
        text = json.dumps({**depends_on, "torch": torch.__version__}, sort_keys=True, default=str)
        return self.cache.path(sha256(text.encode()).hexdigest()[:32])

    def load(self, path: Path, store: KVStore[Layout]) -> PrefillCost | None:
        """Fill an empty store; None where there is no entry. One that is damaged or belongs to another key is deleted,
        and `remark` says so."""
        self.remark = ""
        try:
            entry = self.cache.open(path.stem)
        except DamagedEntry:
            self.remark = "the stored prefill of this video was damaged; the video was prefilled anew"
            return None
        except OSError as error:
            self.remark = f"the stored prefill {path} cannot be read ({error}); the video was prefilled anew"
            return None
        if entry is None:
            return None
        with entry:
            layout = Layout(**entry.metadata["layout"])
            store.reserve(layout)
            store.commit(layout)
            if entry.payload_bytes != sum(map(_size, _stored_tensors(store))):
                store.commit(Layout())
                self.remark = "the stored prefill of this video has another shape; the video was prefilled anew"
                return None
            for tensor in _stored_tensors(store):
                tensor.copy_(_read_tensor(entry, tensor))
            cost = PrefillCost(**entry.metadata["cost"])
        store.forget_rotated()
        return cost

    def save(self, path: Path, store: KVStore[Layout], cost: PrefillCost) -> str:
        """Store the prefill of a store whose rotated keys were dropped. Returns what went wrong, now or in `load`, or
        ''; no answer depends on it."""
        assert all(rows.rotated is None for rows in store.rows.values())
        layout = store.layout
        counts = {"prefix": layout.prefix, "tail": layout.tail, "text": layout.text, "visual": layout.visual}
        try:
            self.cache.prepare()
            with self.cache.create(path.stem) as entry:
                for tensor in _stored_tensors(store):
                    if tensor.numel():
                        entry.write(tensor.cpu().contiguous().view(torch.uint8).numpy().data.cast("B"))
                entry.commit({"layout": counts, "cost": asdict(cost)})
        except OSError as error:
            return f"kv_store.folder={self.folder} cannot be written ({error}): this prefill is not stored"
        return self.remark


def _stored_tensors(store: KVStore[Layout]) -> Iterator[Tensor]:
    """What an entry holds, in this order: values and un-rotated keys `[layers, kv heads, rows, d]`, positions `[rows]`,
    of each kind of rows."""
    for rows in store.rows.values():
        assert rows.unrotated is not None, "only un-rotated keys are stored"
        for tensor in (rows.values, rows.unrotated):
            yield tensor[:, :, : rows.count]
        yield rows.positions[: rows.count]


def _read_tensor(entry: Entry, like: Tensor) -> Tensor:
    """The next tensor of the payload, of the shape and type of `like`, in host memory."""
    if not like.numel():
        return torch.empty(like.shape, dtype=like.dtype)
    return torch.frombuffer(entry.read(_size(like)), dtype=like.dtype).view(like.shape)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.dtype.itemsize
