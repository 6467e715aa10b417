"""Videos, models and fresh passes for the tests of hf_vlm."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evalkit.models.hf_vlm import HFVLM
from evalkit.models.hf_vlm.adapter import HFVLMModel
from evalkit.models.hf_vlm.checkpoint import load_network, load_processor
from evalkit.models.hf_vlm.frames import metadata_of
from evalkit.types import Context, Decoding, FramePlan, Prompt, Video

from .tiny import checkpoint

VIDEO = Video("v1", Path("/data/clip.mp4"))
PROMPTS = [Prompt(text) for text in ("What is it?", "Who is there?", "\n\nWhy does it rain? (A) one (B) two\nAnswer.")]
DECODING = Decoding(max_new_tokens=6)


class Frames:
    """Noise, as a `FrameStream`: two frames a second of a video with ten."""

    decode_seconds = 1.5
    decoder = "noise"

    def __init__(self, count: int, seed: int = 0, height: int = 70, width: int = 90) -> None:
        indices = tuple(range(0, 5 * count, 5))
        self.plan = FramePlan(indices, tuple(i / 10 for i in indices), 10.0, 5 * count, "test")
        self.seed, self.shape = seed, (height, width, 3)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng(self.seed)
        for start in range(0, len(self.plan), size):
            yield random.integers(0, 255, (min(size, len(self.plan) - start), *self.shape), dtype=np.uint8)

    def close(self) -> None:
        pass


def context(count: int = 6, seed: int = 0, video: Video = VIDEO, **how: Any) -> Context:
    return Context(video, Frames(count, seed), **how)


@cache
def loaded(family: str) -> tuple[Any, Any]:
    settings = HFVLM(checkpoint=str(checkpoint(family)), dtype="float32", device="cpu")
    return load_network(settings, torch.device("cpu")), load_processor(settings)


def model(family: str, **settings: Any) -> HFVLMModel:
    return HFVLMModel(HFVLM(checkpoint=str(checkpoint(family)), dtype="float32", **settings), *loaded(family))


@torch.inference_mode()
def by_transformers(family: str, context: Context, prompt: Prompt, decoding: Decoding = DECODING) -> str:
    """The reply of transformers alone: chat template, processor and `generate` in one go."""
    network, processor = loaded(family)
    frames = np.concatenate(list(context.frames.batches(99)))
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt.text}]}]
    if context.system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": context.system}]})
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + prompt.answer_prefix
    inputs = processor(
        text=[text],
        videos=[frames],
        do_sample_frames=False,
        video_metadata=[metadata_of(context.video, context.frames.plan)],
        return_tensors="pt",
    )
    out = network.generate(**inputs, do_sample=False, max_new_tokens=decoding.max_new_tokens)
    return str(processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
