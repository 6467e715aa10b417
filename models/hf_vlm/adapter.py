"""A Hugging Face video-language model as a `PrefillModel`: processor, prefill, generation, prefix reuse."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from evalkit.errors import ModelError, SampleError
from evalkit.model import PrefillModel, VideoCache
from evalkit.types import Context, Decoding, PrefillCost, Prompt, Reply

from ..shared.device import DeviceClock, chosen_device
from ..shared.memory import out_of_memory, try_in_memory
from .chat import Chat, Cut, NoCut
from .checkpoint import load_network, load_processor
from .frames import check_arguments, check_pixels, metadata_of, read_frames
from .reuse import Generated, PositionState, PrefixCache, Verdict, compare, same_positions, same_tokens, text_positions
from .settings import HFVLM

T = TypeVar("T")
TEXT_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


def build(settings: HFVLM) -> HFVLMModel:
    """Load processor and network. Raises CheckpointError or ConfigError."""
    device = chosen_device(settings.device)
    processor = load_processor(settings)
    check_pixels(settings.pixels, processor.video_processor)  # before gigabytes are read
    check_arguments(settings.processor, processor.video_processor)
    return HFVLMModel(settings, load_network(settings, device), processor)


@dataclass
class Prefix:
    """What is reused: the cut chat, its keys and values, and the positions of the network."""

    cut: Cut
    cache: PrefixCache
    positions: PositionState


@dataclass
class Cache(VideoCache):
    """A video. `frames` (uint8 `[n, 3, height, width]`) are kept for fresh passes; `prefix` is None without reuse."""

    context: Context | None = None
    frames: torch.Tensor | None = None
    before: str = ""
    prefix: Prefix | None = None
    no_reuse: str = ""

    def close(self) -> None:
        self.frames = self.prefix = None


class FirstToken:
    """A streamer of transformers that notes when the first token of a reply is there."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.calls = 0
        self.seconds: float | None = None

    def put(self, value: torch.Tensor) -> None:
        """Called with the prompt, then with each token; the token is on the CPU, so the device has finished it."""
        self.calls += 1
        if self.calls == 2:
            self.seconds = time.perf_counter() - self.started

    def end(self) -> None:
        pass


class HFVLMModel(PrefillModel[Cache]):
    """`reuse`: the proof of prefix reuse; None before the first video."""

    def __init__(self, settings: HFVLM, network: Any, processor: Any) -> None:
        self.settings, self.network, self.processor = settings, network, processor
        self.chat = Chat(processor, settings.cues)
        self.device, self.dtype = network.device, network.dtype
        self.stop = end_tokens(network)
        self.reuse: Verdict | None = None if settings.reuse_prefix else Verdict(False, "off: reuse_prefix=false")

    # Prefill: once for each video

    def prefill(self, context: Context) -> Cache:
        """See `PrefillModel`. Without reuse, only the frames are read here."""
        return self.in_memory(f"while prefilling {len(context.frames.plan):,} frames", lambda: self.filled(context))

    def filled(self, context: Context) -> Cache:
        before = self.chat.before(context)
        frames = read_frames(context.frames)
        cost = PrefillCost(frames=len(frames), video_decode_s=context.frames.decode_seconds)
        cache = Cache(cost, context, frames, before)
        if self.reuse is None or self.reuse.right:
            self.fill(cache)
        return cache

    @torch.inference_mode()
    def fill(self, cache: Cache) -> None:
        """Prefill the prefix, and measure it. Where the chat cannot be cut, the cache says why."""
        clock = DeviceClock(self.device)
        try:
            with clock("prefill"):
                cache.prefix = self.prefilled(cache)
        except NoCut as error:
            cache.no_reuse = f"off: {error}"
            return
        ids, cost = cache.prefix.cut.ids, cache.cost
        cost.prefill_s = clock.seconds["prefill"]
        cost.context_tokens = len(ids)
        cost.visual_tokens = sum(ids.count(token) for token in visual_tokens(self.processor))
        cost.kv_bytes = cache.prefix.cache.nbytes
        cost.peak_memory_bytes = clock.peak_memory_bytes()

    def prefilled(self, cache: Cache) -> Prefix:
        """One pass over everything in front of the questions. Raises NoCut."""
        self.chat.check_order(cache.before)
        inputs = self.inputs(cache, cache.before)
        cut = self.chat.cut(inputs["input_ids"][0].tolist())
        for name in TEXT_INPUTS:
            if name in inputs:
                inputs[name] = inputs[name][:, : len(cut.ids)]
        kept = self.network(**inputs, use_cache=True, logits_to_keep=1).past_key_values
        return Prefix(cut, PrefixCache(kept, len(cut.ids)), PositionState(self.network, inputs))

    def inputs(self, cache: Cache, text: str) -> dict[str, Any]:
        """What the network reads for `text` and the frames: the processor's tensors, on the device."""
        assert cache.context is not None and cache.frames is not None, "the cache is closed"
        context = cache.context
        videos: dict[str, Any] = {
            "video_metadata": [metadata_of(context.video, context.frames.plan)],
            "do_sample_frames": False,
        }
        if self.settings.pixels.given:
            videos["do_resize"] = False  # done as they were decoded
        videos |= {"input_data_format": "channels_first"} | self.settings.processor
        try:
            made = self.processor(text=[text], videos=[cache.frames], return_tensors="pt", videos_kwargs=videos)
        except ValueError as error:
            raise ModelError(f"The processor of this model refuses {context.video.path}: {error}") from error
        return {name: self.placed(name, value) for name, value in made.items()}

    def placed(self, name: str, value: Any) -> Any:
        """A tensor on the device; pixels in the network's dtype. Seconds between frames stay in float32: positions
        follow from them."""
        if not isinstance(value, torch.Tensor):
            return value
        pixels = name.startswith("pixel_values") and value.is_floating_point()
        return value.to(self.device, self.dtype if pixels else value.dtype)

    # Questions

    def generate(self, cache: Cache, prompt: Prompt, decoding: Decoding) -> Reply:
        """See `PrefillModel`."""
        return self.in_memory("while answering", lambda: self.answer_one(cache, prompt, decoding))

    def answer_one(self, cache: Cache, prompt: Prompt, decoding: Decoding) -> Reply:
        assert cache.context is not None, "the cache is closed"
        ids, proven = self.tail_of(cache, prompt), ""
        if ids is not None and self.reuse is None:
            self.reuse = self.proven(cache, prompt, ids, decoding)
            proven = self.reuse.text
        first = FirstToken()
        if ids is not None and self.reuse is not None and self.reuse.right:
            generated, off = self.behind_prefix(cache, ids, decoding, first), ""
        else:
            inputs = self.inputs(cache, self.whole(cache, prompt))
            ids = inputs["input_ids"][0].tolist()
            generated = self.run(inputs, decoding, first)
            off = cache.no_reuse or (self.reuse.text if self.reuse else "off: this question changes the prefix")
        return self.reply(cache, prompt, ids, generated, first, proven or off)

    def generate_all(
        self, cache: Cache, prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[Reply | SampleError]:
        """With `question_batch`, several questions are answered together; where memory runs out, one by one."""
        start = 0
        while start < len(prompts):
            size = self.settings.question_batch if self.can_batch(cache, decoding) else 1
            batch = prompts[start : start + size]
            replies = self.together(cache, batch, decoding) if len(batch) > 1 else None
            yield from super().generate_all(cache, batch, decoding) if replies is None else replies
            start += len(batch)

    def together(self, cache: Cache, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply] | None:
        """Answers to several questions at once; None where one of them has to be asked alone, or memory runs out."""
        try:
            tails = [self.tail_of(cache, prompt) for prompt in prompts]
        except SampleError:
            return None
        known = [tail for tail in tails if tail is not None]
        if len(known) < len(tails):
            return None
        return try_in_memory(partial(self.answer_batch, cache, prompts, known, decoding))[1]

    def can_batch(self, cache: Cache, decoding: Decoding) -> bool:
        """Once reuse is proven; greedy (a sampled reply has a random generator of its own); and where all layers see
        all tokens, because padding would take up room in a sliding window."""
        proven = self.reuse is not None and self.reuse.right
        return proven and decoding.temperature == 0 and cache.prefix is not None and cache.prefix.cache.croppable

    def answer_batch(
        self, cache: Cache, prompts: Sequence[Prompt], tails: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Reply]:
        """Questions behind one prefix, together: the shorter ones are padded between the prefix and themselves, which
        the attention mask hides. The seconds are the batch's, in equal shares."""
        prefix, first = cache.prefix, FirstToken()
        assert prefix is not None, "the cache is closed"
        longest, known = max(map(len, tails)), len(prefix.cut.ids)
        pads = [longest - len(tail) for tail in tails]
        pad = prefix.cut.anchor  # a repetition penalty, which reads masked tokens too, finds no token that is new
        ids = [[*prefix.cut.ids, *[pad] * n, *tail] for n, tail in zip(pads, tails, strict=True)]
        mask = torch.ones(len(ids), known + longest, dtype=torch.int64, device=self.device)
        for row, n in zip(mask, pads, strict=True):
            row[known : known + n] = 0
        prefix.positions.restore()
        inputs = {"input_ids": torch.tensor(ids, device=self.device), "attention_mask": mask}
        rows = self.run_all(inputs | {"past_key_values": prefix.cache.copies(len(ids))}, decoding, first).sequences
        generated = [Generated(self.ended(row[known + longest :].tolist())) for row in rows]
        return [
            self.reply(cache, prompt, tail, one, first, "", 1 / len(ids))
            for prompt, tail, one in zip(prompts, tails, generated, strict=True)
        ]

    def ended(self, ids: list[int]) -> tuple[int, ...]:
        """`ids` up to the first that ends a reply; what follows pads the batch."""
        end = next((i + 1 for i, token in enumerate(ids) if token in self.stop), len(ids))
        return tuple(ids[:end])

    def tail_of(self, cache: Cache, prompt: Prompt) -> list[int] | None:
        """Token ids of a question behind the prefix; None where it cannot be asked from there."""
        assert cache.context is not None
        tail = self.chat.tail(cache.context, cache.before, prompt)
        return None if cache.prefix is None or tail is None else self.chat.tail_ids(cache.prefix.cut, tail)

    def whole(self, cache: Cache, prompt: Prompt) -> str:
        """The chat with this question, as text."""
        assert cache.context is not None
        return self.chat.rendered(cache.context, prompt.text) + prompt.answer_prefix

    def behind_prefix(
        self, cache: Cache, tail: Sequence[int], decoding: Decoding, streamer: Any = None, logits: bool = False
    ) -> Generated:
        """Generate from the cache of the prefix, which is afterwards as it was before."""
        prefix = cache.prefix
        assert prefix is not None, "the cache is closed"
        ids = torch.tensor([[*prefix.cut.ids, *tail]], device=self.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        prefix.positions.restore()
        try:
            return self.run(inputs | {"past_key_values": prefix.cache.lend()}, decoding, streamer, logits)
        finally:
            prefix.cache.take_back()

    def run(self, inputs: dict[str, Any], decoding: Decoding, streamer: Any = None, logits: bool = False) -> Generated:
        """One reply."""
        out = self.run_all(inputs, decoding, streamer, logits)
        ids = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        return Generated(tuple(ids), torch.stack([step[0].float().cpu() for step in out.logits]) if logits else None)

    @torch.inference_mode()
    def run_all(self, inputs: dict[str, Any], decoding: Decoding, streamer: Any = None, logits: bool = False) -> Any:
        """`generate` of transformers with the checkpoint's own generation config, except for what the protocol says.
        Each call has a random generator of its own, so that the order of questions never matters."""
        config = copy.deepcopy(self.network.generation_config)
        config.max_new_tokens, config.max_length = decoding.max_new_tokens, None
        config.do_sample = decoding.temperature > 0
        config.temperature = decoding.temperature if config.do_sample else None
        config.top_p = decoding.top_p if config.do_sample else None
        config.top_k = 0 if config.do_sample else None
        if decoding.repetition_penalty is not None:
            config.repetition_penalty = decoding.repetition_penalty
        config.return_dict_in_generate, config.output_logits = True, logits
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(decoding.seed)
            return self.network.generate(**inputs, generation_config=config, streamer=streamer)

    def proven(self, cache: Cache, prompt: Prompt, tail: Sequence[int], decoding: Decoding) -> Verdict:
        """The verdict on reuse; where it is off, the prefix is given up."""
        done, verdict = try_in_memory(lambda: self.proof(cache, prompt, tail, decoding))
        if not done or verdict is None:
            verdict = Verdict(
                False, "off: the fresh pass that would prove it does not fit into memory beside the prefix"
            )
        if not verdict.right:
            cache.prefix = None
        return verdict

    def proof(self, cache: Cache, prompt: Prompt, tail: Sequence[int], decoding: Decoding) -> Verdict:
        """Answer one question twice: from the cache, and by a fresh pass over everything. Between the two, another
        text goes through the network, so that state of an earlier video that is not restored shows."""
        assert cache.prefix is not None
        inputs = self.inputs(cache, self.whole(cache, prompt))
        if not same_tokens(cache.prefix.cut.ids, tail, inputs["input_ids"][0].tolist()):
            return Verdict(False, "off: the tokens of prefix and question are not those of the whole chat")
        with text_positions(self.network) as fresh_at:
            fresh = self.run(inputs, decoding, logits=True)
        self.disturb(tail)
        with text_positions(self.network) as reused_at:
            reused = self.behind_prefix(cache, tail, decoding, logits=True)
        if not same_positions(reused_at, fresh_at, len(tail)):
            return Verdict(False, "off: on the first video the positions of the question are not those of a fresh pass")
        return compare(reused, fresh, self.dtype)

    def disturb(self, ids: Sequence[int]) -> None:
        """Read `ids` without any video: networks keep state of what they read last."""
        alone = torch.tensor([list(ids)], device=self.device)
        self.run({"input_ids": alone, "attention_mask": torch.ones_like(alone)}, Decoding(max_new_tokens=1))

    def reply(
        self,
        cache: Cache,
        prompt: Prompt,
        ids: Sequence[int],
        generated: Generated,
        first: FirstToken,
        reuse: str,
        share: float = 1.0,
    ) -> Reply:
        """`share` of the clock of a batch is this question's own; its first token comes when that of all does."""
        seconds, first_s = time.perf_counter() - first.started, first.seconds
        stopped = bool(generated.ids) and generated.ids[-1] in self.stop
        kept = generated.ids[:-1] if stopped else generated.ids
        return Reply(
            text=self.chat.decode(kept),
            prompt=self.whole(cache, prompt)[len(cache.before) :],
            prompt_tokens=len(ids),
            new_tokens=len(kept),
            question_s=None if first_s is None else share * first_s,
            generate_s=None if first_s is None else share * (seconds - first_s),
            first_token_s=first_s,
            kv_bytes_used=cache.cost.kv_bytes,
            finish="stop" if stopped else "length",
            details={"prefix_reuse": reuse} if reuse else {},
            remarks=self.remarks(cache, len(ids) + len(kept), reuse),
        )

    def remarks(self, cache: Cache, behind: int, reuse: str) -> tuple[str, ...]:
        """What a reader of the answer should know. `behind`: tokens after the prefix, or all of them without one."""
        remarks = []
        if self.settings.reuse_prefix and reuse.startswith("off"):
            remarks.append(f"prefix reuse is {reuse}")
        length = behind + (0 if cache.prefix is None else len(cache.prefix.cut.ids))
        made_for = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        if made_for is not None and length > made_for:
            remarks.append(f"{length:,} tokens, but the model was made for {made_for:,}")
        return tuple(remarks)

    def context_text(self, context: Context) -> str:
        return self.chat.before(context)

    def in_memory(self, doing: str, work: Callable[[], T]) -> T:
        """`work()`; where memory runs out, a ModelError, and all that it held is free again."""
        done, result = try_in_memory(work)
        if not done:
            remedy = "Take fewer frames (frames.max) or smaller ones (pixels), or more devices (device_map=auto)."
            raise out_of_memory(self.device, doing, remedy)
        return result  # type: ignore[return-value]


def end_tokens(network: Any) -> set[int]:
    """Ids that end a reply."""
    ends = network.generation_config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)


def visual_tokens(processor: Any) -> set[int]:
    """Ids of the placeholders that visual features replace."""
    found = (getattr(processor, name, None) for name in ("video_token_id", "image_token_id"))
    return {token for token in found if isinstance(token, int)}
