"""Timestamps to token ids and positions, against golden results."""

from __future__ import annotations

from hashlib import sha256
from itertools import groupby

import pytest

from evalkit.models.shared.layout import Layout
from evalkit.models.videoxl2.geometry import GROUP_FRAMES
from evalkit.models.videoxl2.text import ChatText, timestamp
from evalkit.types import Prompt

from . import toy
from .cases import Case, find_cases, find_variants

VISION_PAD = 151654


@pytest.mark.parametrize("case", find_cases("sequence"))
def test_the_toy_tokenizer_is_the_one_described(case: Case) -> None:
    described = case.meta["toy_vocabulary"]
    assert toy.encode("0123456789") == list(range(15, 25)) and described["0..9"] == "15..24"
    assert toy.encode("cü") == [300 + ord(c) % 700 for c in "cü"]
    assert described["other character c"] == "300 + codepoint(c) % 700"
    for word, index in described.items():
        if isinstance(index, int):
            assert toy.encode(word) == [index]


@pytest.mark.parametrize(("case", "row"), find_variants("sequence", "rows"))
def test_ids_and_positions(case: Case, row: int) -> None:
    golden = case.meta["rows"][row]
    times = golden["frame_timestamps"]
    chat = ChatText(toy.encode, time_rewrite="authors")
    tokens = chat.context(times)
    if "block_timestamps" not in golden:  # no frames at all
        assert times == [] and tokens.groups == ()
        return

    assert case.meta["frames_per_block"] == GROUP_FRAMES
    assert times[::GROUP_FRAMES] == golden["block_timestamps"]
    assert [timestamp(time) for time in golden["block_timestamps"]] == golden["block_texts"]
    assert list(tokens.prefix) == golden["prefix_ids"]
    assert [list(ids) for ids in tokens.groups] == golden["block_token_ids"]
    suffix = chat.question(Prompt(case.meta["question"]))
    assert list(suffix) == golden["suffix_ids"]

    visual = case.meta["visual_tokens_per_block"]
    video = [token for ids in tokens.groups for token in [*ids, *[VISION_PAD] * visual]]
    assert sha256(",".join(map(str, video)).encode()).hexdigest() == golden["video_ids_sha256"]
    if golden["video_ids_as_runs"] is not None:
        assert [[token, len(list(run))] for token, run in groupby(video)] == golden["video_ids_as_runs"]

    expected = golden["expected"]
    layout = Layout(len(tokens.prefix), text=[len(ids) for ids in tokens.groups], visual=[visual] * len(tokens.groups))
    starts = layout.starts[:-1]
    ends = [start + text for start, text in zip(starts, layout.text, strict=True)]
    assert expected == {
        "frames": len(times),
        "blocks": layout.groups,
        "video_start": layout.prefix,
        "video_end": layout.length,
        "time_starts": starts,
        "time_ends": ends,
        "visual_spans": [[end, end + visual] for end in ends],
        "total_length": layout.length + len(suffix),
    }
