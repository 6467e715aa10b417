"""Video-XL-2 behind the model contract: the miniature, real frames, every setting."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.errors import ConfigError, ModelError, VideoError
from evalkit.models.shared.attention import SdpaCpu
from evalkit.models.shared.cost import attention_density
from evalkit.models.shared.generation_config import GenerationConfig
from evalkit.models.shared.layout import Chunked, Layout, Policy, Streaming
from evalkit.models.videoxl2.adapter import Cache, VideoXL2Model
from evalkit.models.videoxl2.checkpoint import load
from evalkit.models.videoxl2.estimate import estimator
from evalkit.models.videoxl2.mini import folder
from evalkit.models.videoxl2.settings import (
    BilevelDecode,
    BudgetSettings,
    KVStoreSettings,
    RelevanceSettings,
    SparsePrefill,
    VideoXL2,
    VideoXL2Mini,
)
from evalkit.types import Context, Cue, Decoding, FramePlan, Prompt, Video

VIDEO = Video("v1", Path("/data/clip.mp4"))
QUESTIONS = [f"{what} (A) one (B) two\nAnswer." for what in ("What is it?", "Who is there?", "Why does it rain?")]
DECODING = Decoding(max_new_tokens=6)


class Frames:
    """Moving stripes, as a `FrameStream`. Counts what has been taken."""

    decode_seconds = 1.5
    decoder = "stripes"

    def __init__(self, count: int, seed: int = 0) -> None:
        self.plan = FramePlan(tuple(range(count)), tuple(float(i) for i in range(count)), 1.0, count, "test")
        self.seed, self.taken = seed, 0

    def batches(self, size: int) -> Iterator[np.ndarray]:
        rows = np.arange(384)[:, None, None]
        for start in range(0, len(self.plan), size):
            batch = range(start, min(start + size, len(self.plan)))
            stripes = [(rows * (3 + i) + np.arange(384)[None, :, None] * (self.seed + i)) % 256 for i in batch]
            self.taken += len(batch)
            yield np.repeat(np.stack(stripes), 3, axis=3).astype(np.uint8)


@cache
def loaded() -> Any:
    made = load(folder(), dtype=torch.float32, device=torch.device("cpu"), vision_batch=16)
    encode, known = made.vision.encode, {}

    def remembered(frames: np.ndarray) -> torch.Tensor:  # the same frames are prefilled again and again here
        key = (zlib.crc32(frames.data), frames.shape)
        if key not in known:
            known[key] = encode(frames)
        return known[key]

    made.vision.encode = remembered
    made.vision.encode_anew = encode
    return made


def model(stop: bool = True, **settings: Any) -> VideoXL2Model:
    """The miniature. Without `stop`, answers go on to the limit, so that more than a letter is compared."""
    made = VideoXL2Model(VideoXL2(dtype="float32", **settings), loaded())
    if not stop:
        made.stop = set()
    return made


def context(count: int = 44, seed: int = 0, **how: Any) -> Context:
    return Context(VIDEO, Frames(count, seed), **how)


SPARSE = SparsePrefill(True, chunk_groups=2, previous_chunks=1)
STREAMING = SparsePrefill(True, 2, 1, "streaming")
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "chunked": {"sparse_prefill": SPARSE},
    "streaming": {"sparse_prefill": STREAMING},
    "host": {"sparse_prefill": SPARSE, "kv_store": KVStoreSettings("cpu")},
    "eager": {"attention": "eager"},
} | {
    f"bilevel {method}": {
        "sparse_prefill": SPARSE,
        "bilevel_decode": BilevelDecode(True, 4, 2, BudgetSettings(chunks=1), RelevanceSettings(method)),
    }
    for method in ("attention", "uniform", "random")
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_order_of_questions_and_a_fresh_prefill_change_nothing(name: str) -> None:
    made = model(stop=False, **SETTINGS[name])
    prompts = [Prompt(text, question_id=str(i)) for i, text in enumerate(QUESTIONS)]
    once = made.prefill(context())
    forwards = [made.generate(once, prompt, DECODING) for prompt in prompts]
    backwards = [made.generate(once, prompt, DECODING) for prompt in reversed(prompts)][::-1]
    afresh = [made.generate(made.prefill(context()), prompt, DECODING) for prompt in prompts]
    for replies in zip(forwards, backwards, afresh, strict=True):
        assert len({reply.text for reply in replies}) == 1
        assert replies[0].details == replies[1].details == replies[2].details
    other = made.generate(made.prefill(context(seed=7)), prompts[0], DECODING)
    assert len({reply.text for reply in (*forwards, other)}) > 1  # replies are not always the same


def test_settings_agree_where_they_must() -> None:
    def texts(**settings: Any) -> list[str]:
        made = model(stop=False, **settings)
        kept = made.prefill(context())
        return [made.generate(kept, Prompt(text), DECODING).text for text in QUESTIONS]

    full = texts()
    assert texts(sparse_prefill=SparsePrefill(True, 2, 99)) == full
    assert texts(sparse_prefill=SparsePrefill(True, 2, 99, "streaming")) == full
    assert texts(attention="eager") == full
    assert texts(kv_store=KVStoreSettings("cpu")) == full
    assert (
        texts(bilevel_decode=BilevelDecode(True, 1, 2, BudgetSettings(chunks=1), RelevanceSettings("uniform"))) == full
    )
    assert (
        texts(bilevel_decode=BilevelDecode(True, 4, 2, BudgetSettings(chunks=99), RelevanceSettings("uniform"))) == full
    )


@pytest.mark.parametrize(("sparse", "policy"), [(SPARSE, Chunked(2, 1)), (STREAMING, Streaming(2, 1))])
def test_what_a_prefill_cost(sparse: SparsePrefill, policy: Policy) -> None:
    made = model(sparse_prefill=sparse)
    cost = made.prefill(context(42)).cost  # 11 groups, the last frame repeated
    tokens = made.text.context([float(i) for i in range(42)])
    layout = Layout(len(tokens.prefix), 0, [len(ids) for ids in tokens.groups], [144] * 11)
    assert (cost.frames, cost.visual_tokens, cost.context_tokens) == (42, 11 * 144, layout.length)
    assert cost.attention_density == attention_density(layout, policy) < 1
    assert cost.kv_bytes == made.size.kv_bytes(layout.length, 4)
    assert cost.video_decode_s == 1.5
    assert cost.vision_s > 0 and cost.prefill_s > 0
    assert cost.flops == made.vision_size.frames(42) + made.size.prefill(layout, policy)
    assert cost.peak_memory_bytes is None  # told for CUDA devices
    foretold = estimator(made.settings, folder()).estimate(context(42), [], DECODING)
    assert foretold.attention_density == cost.attention_density and foretold.kv_bytes == cost.kv_bytes
    assert (foretold.vision_flops or 0) + (foretold.prefill_flops or 0) == cost.flops


def test_what_a_reply_cost() -> None:
    made = model(bilevel_decode=BilevelDecode(True, 4, 2, BudgetSettings(chunks=1), RelevanceSettings("uniform")))
    kept = made.prefill(context())
    reply = made.generate(kept, Prompt(QUESTIONS[0]), DECODING)
    assert reply.details == {"dense_chunks": [0, 3, 5], "chunk_frames": 8, "compression": 4}
    assert reply.prompt_tokens == len(made.text.question(Prompt(QUESTIONS[0])))
    assert reply.kv_bytes_used is not None and reply.kv_bytes_used < kept.cost.kv_bytes
    assert reply.first_token_s is not None and 0 < reply.first_token_s == reply.question_s
    assert reply.flops is not None and reply.flops > 0
    assert reply.finish == "stop" and reply.text in tuple("ABCD")
    assert made.generate(kept, Prompt(QUESTIONS[0]), Decoding(max_new_tokens=1)).finish == "length"


def test_frames_are_taken_as_they_are_needed() -> None:
    """At most a step and a batch of frames wait for the language model."""
    made = model()
    frames = Frames(112)
    waiting = []
    keep = SdpaCpu()

    class Watching(SdpaCpu):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            waiting.append(frames.taken)
            return keep(*args, **kwargs)

    made.attention = Watching()
    made.prefill(Context(VIDEO, frames))
    assert waiting[0] == 0 and waiting[1] < waiting[-1]  # the prefix before any frame
    assert min(taken for taken in waiting if taken) <= 16 * 5


def test_subtitles_stand_between_frames() -> None:
    made = model(stop=False)
    cues = (Cue(0, "first words"), Cue(9, "in the middle"), Cue(44, "after all"))
    kept = made.prefill(context(cues=cues))
    assert kept.store is not None
    plain = made.text.context([float(i) for i in range(44)])
    layout = kept.store.layout
    longer = [g for g, text in enumerate(layout.text) if text > len(plain.groups[g])]
    assert longer == [0, 2] and layout.tail == len(made.encode("after all\n"))
    assert layout.visual == [144] * 11


def test_a_video_without_a_whole_group() -> None:
    with pytest.raises(VideoError, match="fewer frames") as raised:
        model().prefill(context(0))
    assert raised.value.kind == "too_short"


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_very_short_videos(count: int) -> None:
    for settings in SETTINGS.values():
        made = model(**settings)
        reply = made.generate(made.prefill(context(count)), Prompt(QUESTIONS[0]), DECODING)
        assert reply.text in tuple("ABCD")


def test_selection_file(tmp_path: Path) -> None:
    config = {"selected_chunk_size": 4, "compression": 2}
    table = {"a": {"config": config, "selected_unit_indices": {"clip.mp4_What is it?": [2]}}}
    (tmp_path / "s.json").write_text(json.dumps(table))

    def chosen(**how: Any) -> VideoXL2Model:
        return model(
            bilevel_decode=BilevelDecode(True, relevance=RelevanceSettings("file", str(tmp_path / "s.json"), **how))
        )

    made = chosen()
    kept = made.prefill(context(64))
    hit = made.generate(kept, Prompt(QUESTIONS[0], question="What is it?"), DECODING)
    assert hit.details == {"dense_chunks": [0, 1, 3], "chunk_frames": 16, "compression": 2}  # as the file says
    assert hit.remarks == ()
    with pytest.raises(ModelError) as raised:
        made.generate(kept, Prompt(QUESTIONS[1], question="Who is there?"), DECODING)
    assert raised.value.kind == "no_selection"
    lenient = chosen(on_miss="dense")
    missed = lenient.generate(lenient.prefill(context(64)), Prompt(QUESTIONS[1], question="Who?"), DECODING)
    assert missed.kv_bytes_used == kept.cost.kv_bytes and "no row" in missed.remarks[0]
    assert missed.details["dense_chunks"] is None


def test_the_penalty_of_the_checkpoint_is_in_force_unless_decoding_sets_one() -> None:
    """Answers of the miniature repeat tokens once they do not stop, so that a strong penalty shows."""
    prompt = Prompt(QUESTIONS[0])
    made = model(stop=False)
    kept = made.prefill(context())

    def text(penalty: float | None = None) -> str:
        return made.generate(kept, prompt, Decoding(max_new_tokens=12, repetition_penalty=penalty)).text

    plain, penalised = text(), text(50.0)
    assert plain == text(1.0) != penalised
    made.generation = GenerationConfig(repetition_penalty=50.0)
    assert text() == penalised and text(1.0) == plain
    assert made.in_force(Decoding()).repetition_penalty == 50


def test_what_the_checkpoint_has_and_the_model_does_not_use_is_a_remark() -> None:
    made = VideoXL2Model(VideoXL2(dtype="float32"), replace(loaded(), remarks=("one tensor more",)))
    assert made.generate(made.prefill(context(8)), Prompt(QUESTIONS[0]), DECODING).remarks == ("one tensor more",)


def test_positions_beyond_those_of_training_are_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    kept = made.prefill(context(8))
    assert made.generate(kept, Prompt(QUESTIONS[0]), DECODING).remarks == ()
    monkeypatch.setattr(made.decoder.config, "max_position_embeddings", 300)
    (remark,) = made.generate(kept, Prompt(QUESTIONS[0]), DECODING).remarks
    assert "the model was made for 300" in remark


@pytest.mark.parametrize("name", ["chunked", "bilevel attention", "host"])
def test_half_precision(name: str) -> None:
    made = VideoXL2Model(
        VideoXL2(dtype="bfloat16", **SETTINGS[name]), load(folder(), dtype=torch.bfloat16, device=torch.device("cpu"))
    )
    kept = made.prefill(context(20))
    assert kept.cost.kv_bytes == made.size.kv_bytes(kept.cost.context_tokens, 2)
    assert made.generate(kept, Prompt(QUESTIONS[0]), DECODING).text in tuple("ABCD")


# Running out of memory


@pytest.mark.parametrize("at", ["pool", "text"])
def test_memory_that_runs_out_elsewhere(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = model(**SETTINGS["bilevel uniform"])
    targets = {"pool": "evalkit.models.videoxl2.adapter.pool", "text": "evalkit.models.shared.prefill.Prefill.text"}
    monkeypatch.setattr(targets[at], full)
    with pytest.raises(ModelError, match="while prefilling 44 frames") as raised:
        made.prefill(context())
    assert raised.value.kind == "out_of_memory"


def test_smaller_vision_batches_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(stop=False)
    expected = made.generate(made.prefill(context()), Prompt(QUESTIONS[0]), DECODING).text
    encode, sizes = made.vision.forward, []

    def cramped(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pixels)

    monkeypatch.setattr(made.vision, "encode", made.vision.encode_anew)
    monkeypatch.setattr(made.vision, "forward", cramped)
    monkeypatch.setattr(made.vision, "batch", 16)
    kept = made.prefill(context())
    assert made.generate(kept, Prompt(QUESTIONS[0]), DECODING).text == expected
    assert kept.cost.frames == 44  # never fewer
    assert sizes[:3] == [16, 8, 4] and set(sizes[3:]) == {4}


def test_a_store_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("evalkit.models.shared.kv_store.KVStore.reserve", full)
    with pytest.raises(ModelError, match=r"GiB, do not fit.*kv_store\.device=cpu") as raised:
        model().prefill(context())
    assert raised.value.kind == "out_of_memory"
    with pytest.raises(ModelError, match=r"host memory: take fewer frames"):
        model(kv_store=KVStoreSettings("cpu")).prefill(context())


def test_a_question_that_does_not_fit() -> None:
    made = model()
    kept = made.prefill(context())
    working = made.attention

    class Full(SdpaCpu):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    made.attention = Full()
    with pytest.raises(ModelError, match="while answering") as raised:
        made.generate(kept, Prompt(QUESTIONS[0]), DECODING)
    assert raised.value.kind == "out_of_memory"
    made.attention = working
    assert made.generate(kept, Prompt(QUESTIONS[0]), DECODING).text in tuple("ABCD")


def test_a_closed_cache_holds_nothing() -> None:
    kept = model().prefill(context())
    assert isinstance(kept, Cache)
    kept.close()
    assert kept.store is None and not kept.pooled


def test_built_from_settings() -> None:
    made = VideoXL2Mini().build()
    prompt = Prompt("What is it?", answer_prefix="Best option: (")
    reply = made.generate(made.prefill(context(8)), prompt, DECODING)
    assert reply.text in tuple("ABCD")
    assert reply.prompt == "\nWhat is it?<|im_end|>\n<|im_start|>assistant\nBest option: ("
    assert made.context_text(context(8)) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>"
    )


def test_attention_that_cannot_work_is_refused_before_weights_are_read() -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        VideoXL2(checkpoint="nobody/nothing", attention="flex", device="cpu").build()


@pytest.mark.parametrize("name", ["full", "chunked", "host"])
def test_questions_answered_together_get_the_same_answers(name: str) -> None:
    prompts = [Prompt(text, question_id=str(i)) for i, text in enumerate(QUESTIONS)]
    alone = model(stop=False, **SETTINGS[name])
    expected = [alone.generate(alone.prefill(context()), prompt, DECODING).text for prompt in prompts]
    for size in (2, 3, 8):
        together = model(stop=False, question_batch=size, **SETTINGS[name])
        replies = list(together.answer(context(), prompts, DECODING).replies)
        assert [reply.text for reply in replies] == expected
        assert sum(reply.question_s for reply in replies) < sum(reply.first_token_s for reply in replies)


def test_batched_questions_need_a_common_cache() -> None:
    with pytest.raises(ConfigError, match="question_batch"):
        VideoXL2(question_batch=4, bilevel_decode=BilevelDecode(True))
