"""Video-XL-2 as a `VideoModel`: frames stream through the vision half into the KV store, which answers questions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from evalkit.errors import ModelError, SampleError, VideoError
from evalkit.model import PrefillModel, VideoCache
from evalkit.types import Context, Decoding, PrefillCost, Prompt, Reply, Video
from evalkit.video.identity import identity

from ..shared.assembled_kv import AssembledKV
from ..shared.attention import kernel
from ..shared.bilevel import Pooled, assemble_bilevel, pool
from ..shared.cost import attention_density
from ..shared.device import DeviceClock, chosen_device
from ..shared.generate import Generated, generate
from ..shared.kv_rows import Keys
from ..shared.kv_store import KVStore
from ..shared.layout import Layout
from ..shared.memory import out_of_memory, try_in_memory
from ..shared.prefill import Group, Prefill
from ..shared.prefilled import Prefilled
from ..shared.relevance import (
    ChunkBudget,
    Observer,
    RandomChunks,
    RelevanceMethod,
    RelevanceQuery,
    Selection,
    UniformChunks,
)
from .checkpoint import Loaded, load
from .details import details_of
from .geometry import GROUP_FRAMES, VISUAL_TOKENS
from .settings import BilevelDecode, VideoXL2
from .sizes import VisionSize
from .text import END_OF_TURN, IMAGE, ChatText, ContextTokens

END_OF_TEXT = "<|endoftext|>"

QuestionKV = KVStore[Layout] | AssembledKV
"""What a question attends to: the whole store, or what bi-level decode keeps of it."""

_NAMES = dict.fromkeys(("id", "path", "duration_s", "subtitles"))
"""Fields of a video that do not change its frames."""


def build(settings: VideoXL2) -> VideoXL2Model:
    """Load the checkpoint that `settings` name. Raises CheckpointError or ConfigError."""
    device = chosen_device(settings.device)
    dtype = getattr(torch, settings.dtype)
    kernel(settings.attention, device, dtype)  # an error here comes before the weights are read
    loaded = load(
        settings.folder(),
        dtype=dtype,
        device=device,
        attention="sdpa" if settings.attention == "flex" else settings.attention,
        vision_batch=settings.vision_batch,
    )
    return VideoXL2Model(settings, loaded)


@dataclass
class Cache(VideoCache):
    """A prefilled video. `pooled`: its visual rows by compression ratio, for bi-level decoding."""

    video: Video | None = None
    store: KVStore[Layout] | None = None
    observer: Observer | None = None
    pooled: dict[int, Pooled] = field(default_factory=dict)
    remark: str = ""

    def close(self) -> None:
        self.store = self.observer = None
        self.pooled.clear()


class VideoXL2Model(PrefillModel[Cache]):
    """Greedy answers in float32 are, token for token, those of a fresh prefill for every question."""

    def __init__(self, settings: VideoXL2, loaded: Loaded) -> None:
        self.settings = settings
        self.vision, self.decoder, self.tokenizer = loaded.vision, loaded.decoder, loaded.tokenizer
        self.attention = kernel(settings.attention, self.decoder.device, self.decoder.dtype)
        self.policy = settings.sparse_prefill.policy()
        self.relevance = self.relevance_of(settings.bilevel_decode) if settings.bilevel_decode.enabled else None
        self.text = ChatText(self.encode, settings.time_rewrite)
        folder, gb = settings.kv_store.folder, settings.kv_store.folder_gb
        self.prefilled = Prefilled(Path(folder).expanduser(), int(gb * 1e9)) if folder else None
        self.generation, self.load_remarks = loaded.generation, loaded.remarks
        self.stop = {self.encode(word)[0] for word in (END_OF_TURN, END_OF_TEXT)}
        self.size = self.decoder.size
        self.question_rows: int | None = None  # rows of a question at a time; None: all, until memory runs out
        self.vision_size = VisionSize.of(loaded.config.vision, self.size.hidden)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def relevance_of(self, bilevel: BilevelDecode) -> RelevanceMethod:
        """The method that `bilevel_decode.relevance` names."""
        chosen, budget = bilevel.relevance, ChunkBudget(bilevel.budget.chunks, bilevel.budget.fraction)
        if chosen.method == "file":
            from .selection_file import SelectionFile

            return SelectionFile(str(chosen.file), str(chosen.on_miss), bilevel.chunk_groups, bilevel.compression)
        assert bilevel.chunk_groups is not None and bilevel.compression is not None
        common = (bilevel.chunk_groups, bilevel.compression, budget)
        match chosen.method:
            case "uniform":
                return UniformChunks(*common)
            case "random":
                return RandomChunks(*common, seed=chosen.seed or 0)
            case "siglip":
                from ..shared.relevance_siglip import SiglipRelevance, SiglipTowers

                towers = SiglipTowers(str(chosen.model), self.decoder.device, self.decoder.dtype)
                return SiglipRelevance(*common, siglip=towers, group_frames=GROUP_FRAMES)
        from ..shared.relevance_attention import AttentionRelevance

        return AttentionRelevance(*common, decoder=self.decoder, attention=self.attention)

    # Prefill: once a video

    def prefill(self, context: Context) -> Cache:
        if not len(context.frames.plan):
            raise VideoError(
                f"{context.video.path} has fewer frames than one group of {GROUP_FRAMES}.", kind="too_short"
            )
        done, cache = try_in_memory(lambda: self.filled(context))
        if not done:  # with the smallest steps and batches
            raise out_of_memory(
                self.decoder.device,
                f"while prefilling {len(context.frames.plan):,} frames",
                "Set kv_store.device=cpu, take fewer frames (frames.max), or use a larger device.",
            )
        assert cache is not None
        return cache

    def filled(self, context: Context) -> Cache:
        """A cache with everything in it: computed, or as it was computed under another setting of bi-level decode."""
        tokens = self.text.context(context.frames.plan.times_s, context.system, context.cues)
        store = self.new_store(tokens)
        cache = Cache(video=context.video, store=store)
        kept = self.prefilled.path(self.depends_on(context, tokens)) if self.prefilled else None
        if self.prefilled and kept and (cost := self.prefilled.load(kept, store)):
            cache.cost = cost
            return cache
        self.fill(cache, store, context, tokens)
        if self.prefilled and kept:
            cache.remark = self.prefilled.save(kept, store, cache.cost)
        return cache

    def depends_on(self, context: Context, tokens: ContextTokens) -> dict[str, object]:
        """All that the keys and values of a context depend on."""
        settings = self.settings
        return {
            "weights": settings.provenance(),
            "numerics": (settings.dtype, repr(self.attention), str(self.decoder.device.type), settings.vision_batch),
            "policy": repr(self.policy),
            "video": (identity(context.video.path), {**asdict(context.video), **_NAMES}),
            "frames": (asdict(context.frames.plan), context.frames.decoder),
            "tokens": asdict(tokens),
        }

    def fill(self, cache: Cache, store: KVStore[Layout], context: Context, tokens: ContextTokens) -> None:
        """Prefill, and what it cost."""
        plan, clock = context.frames.plan, DeviceClock(self.decoder.device)
        if self.relevance is not None:
            cache.observer = self.relevance.observer()
        prefill = Prefill(self.decoder, store, self.policy, self.attention)
        with clock("prefill"):
            prefill.text(self.embedded(tokens.prefix))
            prefill.groups(clock.outside("prefill", self.groups(context, tokens, cache.observer, clock)))
            prefill.text(self.embedded(tokens.tail))
            if self.relevance is not None:
                store.forget_rotated()
                if self.settings.bilevel_decode.compression is not None:  # a selection file may say it later
                    self.pooled(cache, self.settings.bilevel_decode.compression)
        layout = store.layout
        cache.cost = PrefillCost(
            frames=len(plan),
            visual_tokens=layout.visual_tokens,
            context_tokens=layout.length,
            video_decode_s=context.frames.decode_seconds,
            vision_s=clock.seconds["vision"],
            prefill_s=clock.seconds["prefill"],
            kv_bytes=store.nbytes,
            attention_density=attention_density(layout, self.policy),
            flops=float(self.vision_size.frames(len(plan)) + self.size.prefill(layout, self.policy)),
            peak_memory_bytes=clock.peak_memory_bytes(),
        )

    def new_store(self, tokens: ContextTokens) -> KVStore[Layout]:
        """An empty store with room for the whole video."""
        keys = Keys.ROTATED if self.relevance is None else Keys.ROTATED | Keys.UNROTATED
        store = KVStore(self.decoder, Layout(), keys, host=self.settings.kv_store.device == "cpu")
        texts = [len(ids) for ids in tokens.groups]
        layout = Layout(len(tokens.prefix), len(tokens.tail), texts, [VISUAL_TOKENS] * len(texts))
        if not try_in_memory(lambda: store.reserve(layout))[0]:
            where = "host memory" if store.place.host else f"memory of {store.device}"
            gib = self.size.kv_bytes(layout.length, self.decoder.dtype.itemsize) / 2**30
            remedy = "take fewer frames" if store.place.host else "set kv_store.device=cpu or take fewer frames"
            raise ModelError(
                f"The keys and values of {layout.length:,} tokens, {gib:.1f} GiB, do not fit into the {where}: "
                f"{remedy} (frames.max).",
                kind="out_of_memory",
            )
        return store

    def groups(
        self, context: Context, tokens: ContextTokens, observer: Observer | None, clock: DeviceClock
    ) -> Iterator[Group]:
        """Embeddings of group after group, as the frames arrive."""
        texts = iter(tokens.groups)
        for frames in context.frames.batches(self.vision.batch):
            with clock("vision"):
                if observer is not None:
                    observer.see(frames)
                visual = self.encoded(frames)
            for group in visual:
                yield self.embedded(next(texts)), group

    def encoded(self, frames: object) -> torch.Tensor:
        """Visual tokens `[G, 144, D]`; in smaller batches where memory runs out."""
        while True:
            done, visual = try_in_memory(lambda: self.vision.encode(frames))  # type: ignore[arg-type]
            if done:
                assert visual is not None
                return visual
            if self.vision.batch <= GROUP_FRAMES:
                raise out_of_memory(
                    self.decoder.device,
                    f"while encoding {GROUP_FRAMES} frames, the smallest batch",
                    "Use a larger device, or set kv_store.device=cpu.",
                )
            self.vision.batch = max(GROUP_FRAMES, self.vision.batch // 2 // GROUP_FRAMES * GROUP_FRAMES)

    def embedded(self, ids: tuple[int, ...]) -> torch.Tensor:
        with torch.inference_mode():
            return self.decoder.embed(torch.tensor(ids, dtype=torch.int64, device=self.decoder.device))

    # Questions

    def in_force(self, decoding: Decoding) -> Decoding:
        """`decoding` with what it leaves to the checkpoint."""
        if decoding.repetition_penalty is not None:
            return decoding
        return replace(decoding, repetition_penalty=self.generation.repetition_penalty)

    def generate(self, cache: Cache, prompt: Prompt, decoding: Decoding) -> Reply:
        """See `VideoModel`. Where memory runs out, the question is taken in smaller pieces, from here on."""
        assert cache.store is not None, "the cache is closed"
        decoding = self.in_force(decoding)
        while True:
            done, reply = try_in_memory(lambda: self.answer_one(cache, prompt, decoding))
            if done:
                assert reply is not None
                return reply
            if self.question_rows == 1:
                raise out_of_memory(
                    self.decoder.device,
                    f"while answering behind {cache.store.length:,} tokens of video",
                    "Use bilevel_decode with a smaller budget, or a larger device.",
                )
            self.question_rows = max(1, (self.question_rows or len(self.text.question(prompt))) // 4)

    def generate_all(
        self, cache: Cache, prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[Reply | SampleError]:
        """With `question_batch`, several questions share matrix products and read the store once."""
        size, decoding = self.settings.question_batch, self.in_force(decoding)
        if size == 1:
            yield from super().generate_all(cache, prompts, decoding)
            return
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            done, replies = try_in_memory(partial(self.batch, cache, batch, decoding))
            yield from replies if done and replies is not None else super().generate_all(cache, batch, decoding)

    def batch(self, cache: Cache, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply]:
        """Questions behind the dense store, together; the seconds are the batch's, in equal shares."""
        assert cache.store is not None
        asked = [self.text.question(prompt) for prompt in prompts]
        generated = generate(self.decoder, self.attention, cache.store, asked, decoding, self.stop)
        return [
            self.reply(cache, prompt, cache.store, ids, answer, None, 0.0, 1 / len(asked))
            for prompt, ids, answer in zip(prompts, asked, generated, strict=True)
        ]

    def answer_one(self, cache: Cache, prompt: Prompt, decoding: Decoding) -> Reply:
        assert cache.store is not None
        started = time.perf_counter()
        store, ids = cache.store, self.text.question(prompt)
        selection = self.select(cache, prompt, ids)
        memory: QuestionKV = store
        if selection is not None and len(groups := selection.groups(store.layout)) < store.layout.groups:
            memory = assemble_bilevel(store, self.pooled(cache, selection.compression), groups)
        selected_s = time.perf_counter() - started
        (generated,) = generate(self.decoder, self.attention, memory, [ids], decoding, self.stop, self.question_rows)
        return self.reply(cache, prompt, memory, ids, generated, selection, selected_s)

    def reply(
        self,
        cache: Cache,
        prompt: Prompt,
        memory: QuestionKV,
        ids: Sequence[int],
        generated: Generated,
        selection: Selection | None,
        selected_s: float,
        share: float = 1.0,
    ) -> Reply:
        """`share` of the clock of a batch is this question's own; its first token comes when that of all does."""
        assert cache.store is not None
        return Reply(
            text=str(self.tokenizer.decode(generated.ids, skip_special_tokens=True)),
            prompt=self.text.question_text(prompt),
            prompt_tokens=len(ids),
            new_tokens=len(generated.ids),
            question_s=selected_s + share * generated.question_s,
            generate_s=share * generated.generate_s,
            first_token_s=selected_s + generated.question_s,
            kv_bytes_used=memory.nbytes,
            flops=float(self.answer_flops(cache.store, memory, len(ids), generated, selection)),
            details={} if selection is None else details_of(selection, GROUP_FRAMES),
            finish=generated.finish,
            remarks=self.remarks(cache, memory, len(ids) + len(generated.ids), selection),
        )

    def remarks(self, cache: Cache, memory: QuestionKV, behind: int, selection: Selection | None) -> tuple[str, ...]:
        """Sentences that a reader of the answer should see."""
        remarks = [*self.load_remarks, *(selection.notes if selection is not None else ())]
        if selection is not None and not selection.notes and memory is cache.store:
            remarks.append("bi-level decode pooled nothing: the video has no more chunks than stay dense")
        if self.settings.sparse_prefill.enabled and cache.cost.attention_density == 1:
            remarks.append("chunked prefill skipped nothing: the video is no longer than its window")
        length, made_for = memory.length + behind, int(self.decoder.config.max_position_embeddings)
        if cache.remark:
            remarks.append(cache.remark)
        if length > made_for:
            remarks.append(f"{length:,} positions, but the model was made for {made_for:,}")
        return tuple(remarks)

    def select(self, cache: Cache, prompt: Prompt, ids: tuple[int, ...]) -> Selection | None:
        if self.relevance is None:
            return None
        assert cache.store is not None and cache.video is not None
        return self.relevance.select(RelevanceQuery(cache.video, prompt, ids, cache.store, cache.observer))

    def pooled(self, cache: Cache, compression: int) -> Pooled:
        if compression not in cache.pooled:
            assert cache.store is not None
            cache.pooled[compression] = pool(cache.store, compression)
        return cache.pooled[compression]

    def answer_flops(
        self,
        store: KVStore[Layout],
        memory: QuestionKV,
        question: int,
        generated: Generated,
        selection: Selection | None,
    ) -> int:
        """Of the question's pass, the answer's and, where relevance is attention, the pass that found it."""
        flops = self.size.extend(memory.length, question + generated.passes - 1, generated.passes)
        if selection is not None and self.settings.bilevel_decode.relevance.method == "attention":
            flops += self.size.extend(store.length, question, 0)
            flops += self.size.layers * self.size.pair // 2 * question * store.layout.visual_tokens
        return flops

    def context_text(self, context: Context) -> str:
        return self.text.prefix_text(context.system) + IMAGE
