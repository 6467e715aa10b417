"""Sizes and text lengths that the dry run counts with. Costs are held against runs in tests/test_dry_run.py."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from evalkit.models.shared.cost import LanguageSize
from evalkit.models.shared.qwen2 import Qwen2Decoder
from evalkit.models.shared.qwen_tokenizer import QWEN_SPLIT
from evalkit.models.videoxl2 import VideoXL2, estimate, mini
from evalkit.models.videoxl2.config import read_config
from evalkit.models.videoxl2.estimate import WORD_BYTES, pieces
from evalkit.models.videoxl2.geometry import GRID
from evalkit.models.videoxl2.sizes import QWEN2_5_7B, SO400M, read_sizes, sizes
from evalkit.models.videoxl2.text import ChatText
from evalkit.models.videoxl2.vision import Vision, kept_blocks
from evalkit.types import Context, Decoding, FramePlan, Prompt, Video
from tests.golden.cases import Case, find_variants


def test_sizes_are_those_of_the_modules_that_are_built() -> None:
    folder = mini.folder()
    config, found = read_config(folder), read_sizes(folder)
    with torch.device("meta"):
        vision, decoder = Vision(config.vision, config.language.hidden_size), Qwen2Decoder(config.language)
    assert found.language == decoder.size
    assert found.language.weights == sum(p.numel() for p in decoder.parameters())
    assert found.vision.weights == sum(p.numel() for p in vision.parameters())
    assert found.vision.layers == kept_blocks(config.vision)
    assert found.vision.grid == GRID**2


def test_the_released_sizes() -> None:
    """7,615,616,512 is the number of parameters that the hub gives for Qwen/Qwen2.5-7B-Instruct."""
    released = sizes(QWEN2_5_7B)
    assert released.language == LanguageSize(3584, 18944, 28, 28, 4, 128, 152064)
    assert released.language.weights == 7_615_616_512
    assert released.vision.width == 3584 and released.vision.layers == SO400M["num_hidden_layers"] - 1


@pytest.mark.parametrize(("case", "row"), find_variants("sequence", "rows"))
def test_without_a_tokenizer_prefix_and_timestamps_have_their_published_lengths(case: Case, row: int) -> None:
    golden = case.meta["rows"][row]
    if "block_timestamps" not in golden:
        return
    tokens = ChatText(pieces).context(golden["frame_timestamps"])
    assert len(tokens.prefix) == 14
    # The golden tokenizer, like Qwen's, has one token for "Time", the space, each digit, the dot, "s" and the colon.
    expected = [len(text) - len("Time") + 1 for text in golden["block_texts"]]
    assert [len(ids) for ids in tokens.groups] == expected


_words = st.sampled_from(
    ["a", "Bob's", "12:30", "\n", "\r", " ", "\t", "<|im_end|>", "<|", "?!", "\x0b", "\x1c", "é²", "x" * 20]
)


@given(st.lists(_words | st.text(max_size=3), max_size=12).map("".join))
@example("A. red.\n\n  B. blue\n \n")
def test_pieces_are_those_of_the_split_of_the_whole_text(text: str) -> None:
    """Lines are counted one by one and ASCII lines by another engine: the number is the same."""
    split, expected = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"), 0
    for i, part in enumerate(re.split(r"(<\|\w+\|>)", text)):
        sizes = [len(piece.encode()) for piece, _ in split.pre_tokenize_str(part)] if part else []
        expected += 1 if i % 2 else sum(1 if size <= WORD_BYTES else -(-size // 4) for size in sizes)
    assert len(pieces(text)) == expected


class _Frames:
    """A plan and no frames, as in a dry run."""

    decode_seconds, decoder = 0.0, ""

    def __init__(self, count: int) -> None:
        times = tuple(float(i) for i in range(count))
        self.plan = FramePlan(tuple(range(count)), times, 1.0, count, "fps")

    def batches(self, size: int):
        raise AssertionError

    def close(self) -> None: ...


def _peak(frames: int = 256, **settings) -> int | None:
    made = VideoXL2(**settings)
    from pathlib import Path

    context = Context(Video("v", Path("v.mp4")), _Frames(frames))
    return estimate.estimator(made, None).estimate(context, [Prompt("Why?")], Decoding()).peak_memory_bytes


def test_peak_memory_follows_what_is_kept_where() -> None:
    from evalkit.models.videoxl2.settings import BilevelDecode, KVStoreSettings

    weights = sizes(QWEN2_5_7B).weights * 2
    plain, longer = _peak(), _peak(512)
    assert plain is not None and longer is not None and weights < plain < longer < weights + 8 * 2**30
    store = sizes(QWEN2_5_7B).language.kv_bytes(1, 2)
    groups = 64
    assert longer - plain == pytest.approx(store * groups * 152.5, rel=0.02)  # 144 visual tokens and a timestamp each
    bilevel = _peak(bilevel_decode=BilevelDecode(True))
    assert bilevel is not None and bilevel > plain
    host = _peak(kv_store=KVStoreSettings("cpu"))
    assert host is not None and host == _peak(512, kv_store=KVStoreSettings("cpu")) < plain
    assert _peak(device="cpu") is None
