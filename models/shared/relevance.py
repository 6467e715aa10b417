"""Which chunks of a video stay dense for a question.

A method gives a `Selection`. Most rank the chunks and leave their number to a `ChunkBudget`; a selection file names the
dense chunks itself. The first and the last chunk are dense in any case, as in the authors' code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from evalkit.types import Prompt, Video

from .cost import mixed_rows
from .layout import Layout

if TYPE_CHECKING:
    from .kv_store import KVStore


class Observer(ABC):
    """Sees the frames of a video while they stream by during prefill."""

    @abstractmethod
    def see(self, frames: np.ndarray) -> None:
        """uint8 `[n, H, W, 3]`, in order."""


@dataclass(frozen=True)
class RelevanceQuery:
    """A question (`ids`: its tokens) about a prefilled video, and who observed its frames."""

    video: Video
    prompt: Prompt
    ids: Sequence[int]
    store: KVStore[Layout]
    observer: Observer | None = None

    @property
    def question(self) -> str:
        """Without options, where the task tells it."""
        return self.prompt.question or self.prompt.text


@dataclass(frozen=True)
class Selection:
    """`dense`: indices of the chunks of `chunk_groups` groups that stay dense; None: everything does."""

    chunk_groups: int
    compression: int
    dense: tuple[int, ...] | None
    notes: tuple[str, ...] = ()

    def chunks(self, layout: Layout) -> tuple[int, ...]:
        return tuple(range(len(layout.chunks(self.chunk_groups)))) if self.dense is None else self.dense

    def groups(self, layout: Layout) -> list[int]:
        """The dense groups."""
        chunks = layout.chunks(self.chunk_groups)
        return [group for chunk in self.chunks(layout) for group in chunks[chunk]]


class RelevanceMethod(ABC):
    """`observer` is called once a video, before its frames are read; `select` once a question."""

    def observer(self) -> Observer | None:
        return None

    @abstractmethod
    def select(self, asked: RelevanceQuery) -> Selection: ...


def ends(chunks: Sequence[range]) -> set[int]:
    """The first and the last chunk."""
    return {0, len(chunks) - 1} if chunks else set()


@dataclass(frozen=True)
class ChunkBudget:
    """How many chunks are dense besides the first and the last: `chunks` of them, or as many as keep the KV rows
    within `fraction` of the dense KV rows."""

    chunks: int | None = None
    fraction: float | None = None

    def size(self, layout: Layout, chunks: Sequence[range], compression: int) -> int:
        inner = list(chunks[1:-1])
        if self.fraction is None:
            assert self.chunks is not None, "a budget is given in chunks or as a fraction"
            return min(self.chunks, len(inner))
        dense = {group for chunk in ends(chunks) for group in chunks[chunk]}
        inner.sort(key=lambda chunk: -sum(layout.visual[group] for group in chunk))  # whichever are chosen, it holds
        for count, chunk in enumerate(inner):
            dense.update(chunk)
            if mixed_rows(layout, compression, dense) > self.fraction * layout.length:
                return count
        return len(inner)


@dataclass
class Budgeted(RelevanceMethod):
    """Methods that name the best chunks, as many as the budget allows."""

    chunk_groups: int
    compression: int
    budget: ChunkBudget

    @abstractmethod
    def best(self, asked: RelevanceQuery, chunks: Sequence[range], size: int) -> Iterable[int]:
        """`size` of the chunks that are neither first nor last."""

    def select(self, asked: RelevanceQuery) -> Selection:
        layout = asked.store.layout
        chunks = layout.chunks(self.chunk_groups)
        size = self.budget.size(layout, chunks, self.compression)
        dense = ends(chunks) | set(self.best(asked, chunks, size) if size else ())
        return Selection(self.chunk_groups, self.compression, tuple(sorted(dense)), self.notes(layout, chunks, dense))

    def notes(self, layout: Layout, chunks: Sequence[range], dense: set[int]) -> tuple[str, ...]:
        """Says where a fraction cannot be kept."""
        rows = mixed_rows(layout, self.compression, {group for chunk in dense for group in chunks[chunk]})
        if self.budget.fraction is None or rows <= self.budget.fraction * layout.length:
            return ()
        return (f"budget.fraction={self.budget.fraction} cannot be kept: {rows / layout.length:.3f} is the least here",)


class Scored(Budgeted):
    """The chunks with the highest scores; of equals, the earlier."""

    @abstractmethod
    def scores(self, asked: RelevanceQuery, chunks: Sequence[range]) -> Sequence[float]:
        """One number a chunk. Those of the first and the last chunk are not looked at."""

    def best(self, asked: RelevanceQuery, chunks: Sequence[range], size: int) -> Iterable[int]:
        scores = self.scores(asked, chunks)
        return sorted(range(1, len(chunks) - 1), key=lambda chunk: (-scores[chunk], chunk))[:size]


class UniformChunks(Budgeted):
    """Control: evenly spread chunks."""

    def best(self, asked: RelevanceQuery, chunks: Sequence[range], size: int) -> Iterable[int]:
        inner = len(chunks) - 2
        return [1 + (2 * i + 1) * inner // (2 * size) for i in range(size)]


@dataclass
class RandomChunks(Scored):
    """Control: chunks drawn for every question, always the same for one seed, video and question."""

    seed: int = 0

    def scores(self, asked: RelevanceQuery, chunks: Sequence[range]) -> Sequence[float]:
        key = f"{self.seed}\n{asked.video.id}\n{asked.prompt.question_id or asked.question}"
        random = Random(int.from_bytes(sha256(key.encode()).digest()[:8], "big"))
        return [random.random() for _ in chunks]
