"""Frames to greedy ids through the adapter itself, in every setting, against golden results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config

from evalkit.models.shared.bilevel import assemble_bilevel
from evalkit.models.videoxl2.adapter import VideoXL2Model
from evalkit.models.videoxl2.checkpoint import Loaded
from evalkit.models.videoxl2.config import ModelConfig
from evalkit.models.videoxl2.settings import BilevelDecode, KVStoreSettings, RelevanceSettings, SparsePrefill, VideoXL2
from evalkit.models.videoxl2.text import ChatText, ContextTokens, timestamp
from evalkit.models.videoxl2.vision import Vision
from evalkit.types import Context, Cue, Decoding, FramePlan, Prompt, Video

from . import toy
from .cases import Case, assert_close, find_variants
from .llm import decoder_of, suffix_logits
from .test_vision import PARTS, vision_config

CONTINUATION = 8


class ToyTokenizer:
    """Ids to their numbers, so that an answer can be read back."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return toy.encode(text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


class GivenText(ChatText):
    """The prompt of the case, given as ids; timestamps are tokenised."""

    def __init__(self, prefix: Sequence[int], suffix: Sequence[int]) -> None:
        super().__init__(toy.encode)
        self.prefix, self.suffix = tuple(prefix), tuple(suffix)

    def context(self, times_s: Sequence[float], system: str | None = None, cues: Sequence[Cue] = ()) -> ContextTokens:
        return ContextTokens(self.prefix, tuple(tuple(toy.encode(timestamp(time))) for time in times_s[::4]))

    def question(self, prompt: Prompt) -> tuple[int, ...]:
        return self.suffix


class Frames:
    """A `FrameStream` over an array."""

    decode_seconds = 0.0
    decoder = "array"

    def __init__(self, frames: np.ndarray, step: float) -> None:
        self.frames = frames
        times = tuple(round(i * step, 1) for i in range(len(frames)))
        self.plan = FramePlan(tuple(range(len(frames))), times, 1 / step, len(frames), "golden")

    def batches(self, size: int) -> Iterator[np.ndarray]:
        for at in range(0, len(self.frames), size):
            yield self.frames[at : at + size]


def settings_of(case: Case, name: str, folder: Path, host: bool) -> VideoXL2:
    """The settings of a variant, as a user would write them."""
    settings: dict[str, Any] = {}
    if name in ("chunked", "bilevel"):
        chunked = case.meta["chunked"]
        settings["sparse_prefill"] = SparsePrefill(True, chunked["block_size"], chunked["prev_blocks"])
    if name == "bilevel":
        bilevel = case.meta["bilevel"]
        config = {"selected_chunk_size": bilevel["chunk_size"], "compression": bilevel["compression"]}
        rows = {f"golden.mp4_{case.meta['question']}": bilevel["selected_units"]}
        file = folder / "selection.json"
        file.write_text(json.dumps({"empty": None, "golden": {"config": config, "selected_unit_indices": rows}}))
        settings["bilevel_decode"] = BilevelDecode(True, relevance=RelevanceSettings(method="file", file=str(file)))
    return VideoXL2(dtype="float32", kv_store=KVStoreSettings("cpu" if host else "model"), **settings)


def model_of(case: Case, settings: VideoXL2) -> VideoXL2Model:
    dims = case.meta["dims"]
    vision = Vision(vision_config(dims["vision"]), width=dims["llm"]["hidden_size"], batch=8)
    own = {
        mine + key.removeprefix(theirs): value
        for key, value in case.weights().items()
        for theirs, mine in PARTS.items()
        if key.startswith(theirs) and "post_layernorm" not in key
    }
    vision.load_state_dict(own)
    decoder = decoder_of(case, "llm")
    config = ModelConfig(vision_config(dims["vision"]), cast(Qwen2Config, decoder.config))
    model = VideoXL2Model(
        settings, Loaded(config, vision.eval(), decoder, cast(PreTrainedTokenizerBase, ToyTokenizer()))
    )
    inputs = case.inputs()
    model.text = GivenText(inputs["prefix_ids"].tolist(), inputs["suffix_ids"].tolist())
    model.stop = set()
    return model


@pytest.mark.parametrize("host", [False, True], ids=["resident", "host"])
@pytest.mark.parametrize(("case", "name"), find_variants("end_to_end"))
def test_frames_to_ids(case: Case, name: str, host: bool, tmp_path: Path) -> None:
    variant, expected, tolerance = case.meta["variants"][name], case.expected(), case.meta["tolerance"]
    model = model_of(case, settings_of(case, name, tmp_path, host))
    frames = case.inputs()["frames_u8"][: variant["frames_used"]].permute(0, 2, 3, 1).numpy()
    item = Video("golden", Path("golden.mp4"))
    cache = model.prefill(Context(item, Frames(frames, case.meta["timestamp_step"])))
    assert cache.store is not None
    layout, spans = cache.store.layout, variant["spans"]
    assert layout.length == spans["video_end"] == cache.cost.context_tokens
    assert [start for start, _, _ in spans["blocks"]] == layout.starts[:-1]

    prompt = Prompt(case.meta["question"], question="", question_id="q")
    ids = model.text.question(prompt)
    selection = model.select(cache, prompt, ids)
    if selection is None:
        memory, length = cache.store, spans["video_end"]
    else:
        memory = assemble_bilevel(cache.store, model.pooled(cache, selection.compression), selection.groups(layout))
        length = variant["mixed_kv_length"]
    assert memory.length == length
    logits = suffix_logits(model.decoder, memory, model.decoder.embed(torch.tensor(ids)))[-1]
    assert_close(logits, expected[f"{name}.last_prompt_logits"], tolerance["logits_abs"], "logits")

    for _ in range(2):  # a question leaves the cache as it was
        reply = model.generate(cache, prompt, Decoding(max_new_tokens=CONTINUATION))
        assert [int(word) for word in reply.text.split()] == expected[f"{name}.continuation"].tolist()
        assert reply.finish == "length" and reply.new_tokens == CONTINUATION
        assert reply.kv_bytes_used == model.size.kv_bytes(length, 4)
