"""Where every token of a context stands, and how far back a prefill policy lets it see.

A context is `prefix | group 0 | group 1 | ... | tail`. A group is some text (its timestamp, perhaps a subtitle) and
then its visual tokens; prefix and tail are text alone. Text and visual tokens are kept apart in the KV store, so each
has two addresses: its position in the sequence, and its row in the text or in the visual buffer.

Imports no torch: the dry run counts with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

STEP_ROWS = 2048
"""Rows that go through the language model together during prefill, unless memory runs out."""

TEXT, VISUAL = "text", "visual"
"""The kinds of rows in the KV store of such a context."""


@dataclass(frozen=True)
class Full:
    """Causal attention: every token sees everything before it."""

    text_sees_all = True

    def window(self, group: int) -> int:
        """The first group whose visual tokens the visual tokens of `group` see."""
        return 0


@dataclass(frozen=True)
class Chunked:
    """Attention in chunks: a visual token sees all text before it, its own chunk and the visual tokens of
    `previous_chunks` chunks before that; a text token sees everything before it.

    Source: github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval (`block_size_chosed`, `prev_blocks_num`)."""

    chunk_groups: int
    previous_chunks: int

    text_sees_all = True
    """Whether the text of a group sees all visual tokens before it, or only those that its visual tokens see."""

    def __post_init__(self) -> None:
        if self.chunk_groups < 1 or self.previous_chunks < 0:
            raise ValueError(f"{self}: chunk_groups must be at least 1 and previous_chunks at least 0.")

    def window(self, group: int) -> int:
        """The first group whose visual tokens the visual tokens of `group` see."""
        return max(0, group // self.chunk_groups - self.previous_chunks) * self.chunk_groups


@dataclass(frozen=True)
class Streaming(Chunked):
    """As `Chunked`, but the text of a group sees what its visual tokens see: of chunks before the window only their
    text. So visual keys and values are never read again once they have left the window.

    Source: the code of huggingface.co/BAAI/Video-XL-2 (`enable_chunk_prefill`, `chunk_prefill_mode: streaming`)."""

    text_sees_all = False


Policy = Full | Chunked | Streaming


@dataclass
class Layout:
    """Token counts of a context, grown group by group. `starts` are sequence positions, `text_rows` and `visual_rows`
    addresses in the two buffers; each list has one entry more than there are groups, the last being the end."""

    prefix: int = 0
    tail: int = 0
    text: list[int] = field(default_factory=list)
    visual: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    text_rows: list[int] = field(default_factory=list)
    visual_rows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        text, visual, tail = self.text, self.visual, self.tail
        self.text, self.visual, self.tail = [], [], 0
        self.starts, self.text_rows, self.visual_rows = [self.prefix], [self.prefix], [0]
        self.extend(zip(text, visual, strict=True))
        self.tail = tail

    def extend(self, groups: Iterable[tuple[int, int]]) -> None:
        """Append groups of (text tokens, visual tokens)."""
        assert not self.tail, "the tail ends a context"
        for text, visual in groups:
            self.text.append(text)
            self.visual.append(visual)
            self.starts.append(self.starts[-1] + text + visual)
            self.text_rows.append(self.text_rows[-1] + text)
            self.visual_rows.append(self.visual_rows[-1] + visual)

    def extended(self, groups: Iterable[tuple[int, int]]) -> Layout:
        """A copy with further groups."""
        copy = Layout(self.prefix)
        for name in ("text", "visual", "starts", "text_rows", "visual_rows"):
            setattr(copy, name, getattr(self, name).copy())
        copy.extend(groups)
        return copy

    @property
    def groups(self) -> int:
        return len(self.text)

    @property
    def text_tokens(self) -> int:
        return self.text_rows[-1] + self.tail

    @property
    def visual_tokens(self) -> int:
        return self.visual_rows[-1]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each kind."""
        return {TEXT: self.text_tokens, VISUAL: self.visual_tokens}

    @property
    def length(self) -> int:
        """The position that follows the context."""
        return self.starts[-1] + self.tail

    def chunks(self, chunk_groups: int) -> list[range]:
        """The groups of each chunk; the last may be shorter."""
        return [range(at, min(at + chunk_groups, self.groups)) for at in range(0, self.groups, chunk_groups)]

    def text_positions(self) -> list[int]:
        """Sequence position of each row of the text buffer."""
        rows = list(range(self.prefix))
        for start, count in zip(self.starts, self.text, strict=False):
            rows.extend(range(start, start + count))
        rows.extend(range(self.starts[-1], self.length))
        return rows

    def visual_positions(self) -> list[int]:
        """Sequence position of each row of the visual buffer."""
        rows: list[int] = []
        for start, text, count in zip(self.starts, self.text, self.visual, strict=False):
            rows.extend(range(start + text, start + text + count))
        return rows
