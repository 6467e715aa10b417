"""The cost of Video-XL-2 in closed form, for the dry run: no torch, no weights.

Tokens, bytes, attention density and operations are those of a run where the checkpoint's `config.json` and tokenizer
are on this machine. Without them the released sizes are used, and a word, digit or mark counts as one token: exact for
timestamps and plain short words, too few for rare ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tokenizers import Regex, Tokenizer, pre_tokenizers

from evalkit.errors import SampleError
from evalkit.model import Estimate, Estimator, QuestionEstimate
from evalkit.types import Context, Cue, Decoding, Prompt

from ..shared.cost import attention_density, mixed_rows
from ..shared.layout import STEP_ROWS, Layout
from ..shared.qwen_tokenizer import QWEN_SPLIT, read_tokenizer
from ..shared.relevance import ChunkBudget, RelevanceMethod, RelevanceQuery, UniformChunks
from .geometry import IMAGE_SIZE, VISUAL_TOKENS
from .selection_file import SelectionFile
from .settings import BilevelDecode, VideoXL2
from .sizes import CHANNELS, DTYPE_BYTES, QWEN2_5_7B, Sizes, read_sizes, sizes
from .text import ChatText, Encode

FLOAT_BYTES = 4

WORD_BYTES = 12
"""A piece of text longer than this is taken to be more than one token."""


def estimator(settings: VideoXL2, folder: Path | None) -> VideoXL2Estimator:
    """`folder`: the checkpoint's, None where it is not on this machine. Raises CheckpointError."""
    remarks = []
    if folder is None:
        remarks.append(
            f"{settings.checkpoint} is not on this machine: sizes are those of the released Video-XL-2 (Qwen2.5-7B and "
            "SigLIP SO400M)"
        )
    tokenizer = read_tokenizer(folder) if folder is not None else None
    if tokenizer is None:
        remarks.append("no tokenizer on this machine: a word, a digit or a mark of the text counts as one token")
    if settings.bilevel_decode.relevance.method == "siglip":
        remarks.append("operations and memory of the SigLIP that ranks the chunks are not counted")
    return VideoXL2Estimator(
        settings,
        read_sizes(folder) if folder is not None else sizes(QWEN2_5_7B),
        pieces if tokenizer is None else counted(tokenizer),
        tokenizer is not None,
        tuple(remarks),
    )


def counted(tokenizer: Tokenizer) -> Encode:
    """As many numbers as the tokenizer makes tokens of a text."""
    return cache(lambda text: range(len(tokenizer.encode(text, add_special_tokens=False).ids)))


_SPLIT = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated")
_ASCII_SPLIT = re.compile(
    QWEN_SPLIT.replace(r"\p{L}\p{N}", "a-zA-Z0-9").replace(r"\p{L}", "[a-zA-Z]").replace(r"\p{N}", "[0-9]"), re.ASCII
)
"""The same pieces of ASCII text, five times faster."""
_SPECIAL = re.compile(r"(<\|\w+\|>)")
_LINE_BREAK = re.compile(r"\n(?=\S)")
"""No piece crosses it."""


def pieces(text: str) -> Sequence[int]:
    """As many numbers as Qwen's tokenizer makes tokens of a text of plain words."""
    *lines, last = _LINE_BREAK.split(text)
    return range(sum(map(_pieces_of_line, [line + "\n" for line in lines])) + _pieces_of_line(last))


@lru_cache(maxsize=2**14)
def _pieces_of_line(line: str) -> int:
    """Cached: most lines of a prompt are those of every other prompt."""
    if "<|" in line:
        return sum(1 if _SPECIAL.fullmatch(part) else _pieces_of_part(part) for part in _SPECIAL.split(line))
    return _pieces_of_part(line)


def _pieces_of_part(text: str) -> int:
    if text.isascii():
        return _tokens(_ASCII_SPLIT.findall(text))
    return _tokens([piece.encode() for piece, _ in _SPLIT.pre_tokenize_str(text)])


def _tokens(found: Sequence[str] | Sequence[bytes]) -> int:
    """Tokens of pieces whose lengths are their numbers of bytes."""
    if max(map(len, found), default=0) <= WORD_BYTES:
        return len(found)
    return sum(1 if size <= WORD_BYTES else -(-size // 4) for size in map(len, found))


def sizing_relevance(bilevel: BilevelDecode) -> RelevanceMethod | None:
    """Selections as large as those of the method that is set. All chunks between the first and the last are equally
    long, so that it does not matter which of them a budget is spent on."""
    if not bilevel.enabled:
        return None
    chosen = bilevel.relevance
    if chosen.method == "file":
        return SelectionFile(str(chosen.file), str(chosen.on_miss), bilevel.chunk_groups, bilevel.compression)
    assert bilevel.chunk_groups is not None and bilevel.compression is not None
    return UniformChunks(
        bilevel.chunk_groups, bilevel.compression, ChunkBudget(bilevel.budget.chunks, bilevel.budget.fraction)
    )


@dataclass(frozen=True)
class SharedCost:
    """What the prefill of a video costs: the same for all videos of the same frame times and texts."""

    layout: Layout
    attention_density: float
    vision_flops: float
    prefill_flops: float


class VideoXL2Estimator(Estimator):
    def __init__(
        self, settings: VideoXL2, size: Sizes, encode: Encode, exact: bool = True, remarks: tuple[str, ...] = ()
    ) -> None:
        self.settings, self.exact, self.remarks = settings, exact, remarks
        self.language, self.vision, self.weights = size.language, size.vision, size.weights
        self.text = ChatText(encode, settings.time_rewrite)
        self.policy = settings.sparse_prefill.policy()
        self.relevance = sizing_relevance(settings.bilevel_decode)
        self.itemsize = DTYPE_BYTES[settings.dtype]
        self.shared = lru_cache(maxsize=16)(self._shared)
        self.question_cost = lru_cache(maxsize=2**14)(self._question_cost)

    def estimate(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Estimate:
        plan = context.frames.plan
        shared = self.shared(plan.times_s, context.system, context.cues)
        layout = shared.layout
        questions = tuple(self.question(context, layout, prompt, decoding) for prompt in prompts)
        return Estimate(
            visual_tokens=layout.visual_tokens,
            context_tokens=layout.length,
            kv_bytes=self.kv_bytes(layout.length),
            questions=questions,
            attention_density=shared.attention_density,
            vision_flops=shared.vision_flops,
            prefill_flops=shared.prefill_flops,
            peak_memory_bytes=self.peak_memory(layout, questions),
        )

    def _shared(self, times_s: Sequence[float], system: str | None, cues: tuple[Cue, ...]) -> SharedCost:
        tokens = self.text.context(times_s, system, cues)
        text = [len(ids) for ids in tokens.groups]
        layout = Layout(len(tokens.prefix), len(tokens.tail), text, [VISUAL_TOKENS] * len(text))
        return SharedCost(
            layout,
            attention_density(layout, self.policy),
            vision_flops=float(self.vision.frames(len(times_s))),
            prefill_flops=float(self.language.prefill(layout, self.policy)),
        )

    def kv_bytes(self, rows: int) -> int:
        return self.language.kv_bytes(rows, self.itemsize)

    def question(
        self, context: Context, layout: Layout, prompt: Prompt, decoding: Decoding
    ) -> QuestionEstimate | SampleError:
        """As `VideoXL2Model.answer` does it, with every token generated that may be."""
        ids = self.text.question(prompt)
        try:
            rows = self.memory_rows(context, layout, prompt, ids)
        except SampleError as error:
            return error
        return self.question_cost(layout.length, layout.visual_tokens, rows, len(ids), decoding.max_new_tokens)

    def _question_cost(self, context: int, visual: int, rows: int, asked: int, passes: int) -> QuestionEstimate:
        """`context`, `visual`: tokens of the video. `rows`: KV rows that the `asked` tokens of the question attend to.
        `passes`: tokens that are generated."""
        flops = self.language.extend(rows, asked + passes - 1, passes)
        if self.settings.bilevel_decode.relevance.method == "attention":
            flops += self.language.extend(context, asked, 0)
            flops += self.language.layers * self.language.pair // 2 * asked * visual
        return QuestionEstimate(asked, self.kv_bytes(rows), float(flops))

    def memory_rows(self, context: Context, layout: Layout, prompt: Prompt, ids: Sequence[int]) -> int:
        """KV rows that the question attends to. Raises ModelError where a selection file lacks it."""
        if self.relevance is None:
            return layout.length
        prefilled = cast(Any, SimpleNamespace(layout=layout))  # of the KV store, selections read the layout alone
        selection = self.relevance.select(RelevanceQuery(context.video, prompt, ids, prefilled))
        if selection.dense is None:
            return layout.length
        return mixed_rows(layout, selection.compression, frozenset(selection.groups(layout)))

    def peak_memory(self, layout: Layout, questions: Iterable[QuestionEstimate | SampleError]) -> int | None:
        """Weights, KV store, what bi-level decoding keeps beside it, and the larger of the working sets of the vision
        tower and of a step of the language model. An estimate: allocators keep more than they are asked for."""
        if self.settings.device == "cpu":
            return None
        store = 0 if self.settings.kv_store.device == "cpu" else self.kv_bytes(layout.length)
        prefilling, asking = store, store
        if self.relevance is not None:
            prefilling = store * 3 // 2  # keys both before and after rotation, and values
            compression = self.settings.bilevel_decode.compression or 1
            pooled = self.kv_bytes(layout.visual_tokens // compression) if store else 0
            mixes = [q.kv_bytes_used or 0 for q in questions if isinstance(q, QuestionEstimate)]
            asking = store + pooled + max(mixes, default=0)
        return self.weights * self.itemsize + max(prefilling, asking) + max(self.vision_work(), self.language_work())

    def vision_work(self) -> int:
        """Bytes of a batch of frames on its way through the tower: pixels twice as float32, and of each patch the
        residual stream, queries, keys, values, the attention's output and the two sides of the MLP."""
        v, frames = self.vision, self.settings.vision_batch
        pixels = 2 * CHANNELS * IMAGE_SIZE**2 * FLOAT_BYTES
        return frames * (pixels + v.patches * (6 * v.hidden + 2 * v.intermediate) * self.itemsize)

    def language_work(self) -> int:
        """Bytes of a step of prefill: of each row the same, and the attention's sums in float32."""
        s = self.language
        values = 6 * s.hidden + 3 * s.intermediate
        return STEP_ROWS * (values * self.itemsize + 2 * s.heads * s.head_dim * FLOAT_BYTES)
