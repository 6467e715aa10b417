"""Closed-form operation counts against what torch counts while the model runs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import SiglipVisionConfig

from evalkit.models.shared.attention import Eager
from evalkit.models.shared.cost import LanguageSize, causal_pairs
from evalkit.models.shared.generate import generate
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import Chunked, Full, Layout, Policy, Streaming
from evalkit.models.shared.prefill import Prefill
from evalkit.models.videoxl2.geometry import GRID
from evalkit.models.videoxl2.sizes import VisionSize
from evalkit.models.videoxl2.vision import Vision
from evalkit.types import Decoding

from .twin import Sequence, pair, prefilled

models = cache(pair)
LAYOUT = Layout(3, 0, [2, 3, 2, 2, 4, 2, 2], [8] * 7)


@pytest.mark.parametrize("policy", [Full(), Chunked(1, 0), Chunked(1, 1), Streaming(1, 1)], ids=str)
def test_prefill(policy: Policy) -> None:
    """Plain matrix products compute the whole square of a run's own rows, the formula its visible half."""
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 0, 32)
    store = KVStore(ours, Layout())
    prefill = Prefill(ours, store, policy, Eager(), step_rows=1)  # a group at a time
    with FlopCounterMode(display=False) as counter:
        prefill.text(sequence.embeds[:3])
        prefill.groups(sequence.groups())
    own = [3, *(text + visual for text, visual in zip(LAYOUT.text, LAYOUT.visual, strict=True))]
    hidden_half = sum(rows * rows - causal_pairs(rows) for rows in own)
    expected = ours.size.prefill(LAYOUT, policy) + (ours.size.layers - 1) * hidden_half * ours.size.pair
    assert counter.get_total_flops() == expected


def test_question_and_answer() -> None:
    ours, _ = models()
    store = prefilled(ours, Sequence.random(LAYOUT, 0, 32), Full())
    with FlopCounterMode(display=False) as counter:
        (answer,) = generate(ours, Eager(), store, [[1, 2, 3, 4]], Decoding(max_new_tokens=5), ())
    hidden_half = 4 * 4 - causal_pairs(4)
    expected = ours.size.extend(store.length, 4 + answer.passes - 1, answer.passes)
    assert counter.get_total_flops() == expected + ours.size.layers * hidden_half * ours.size.pair


def test_vision() -> None:
    config = SiglipVisionConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, image_size=30, patch_size=4
    )
    config._attn_implementation = "sdpa"
    vision = Vision(config, width=48).eval()
    size = VisionSize(64, 96, 2, 49, 48, GRID**2, 48)
    for frames in (4, 7):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            vision.encode(torch.zeros(frames, 30, 30, 3, dtype=torch.uint8))
        assert counter.get_total_flops() == size.frames(frames)


def test_the_released_model() -> None:
    """Figures that follow from the published sizes alone."""
    language = LanguageSize(3584, 18944, 28, 28, 4, 128, 152064)
    vision = VisionSize(1152, 4304, 26, 729, 588, 576, 3584)
    assert vision.frame() == pytest.approx(0.64e12, rel=0.02)
    assert language.row * language.layers == pytest.approx(2 * 6.53e9, rel=0.01)  # twice the weights of the layers
    layout = Layout(14, 0, [8] * 100, [144] * 100)
    assert language.prefill(layout, Full()) == pytest.approx(250e12, rel=0.1)
    saved = 1 - language.prefill(layout, Chunked(4, 3)) / language.prefill(layout, Full())
    assert saved == pytest.approx(0.12, abs=0.02)
