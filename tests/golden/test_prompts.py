"""Rewritten times and complete chat prompts, against golden results."""

from __future__ import annotations

import pytest

from evalkit.models.videoxl2.text import IMAGE, REWRITES, ChatText
from evalkit.types import Prompt

from .cases import Case, find_variants


@pytest.mark.parametrize(("case", "row"), find_variants("prompts", "time_rewriting"))
def test_times_become_seconds_as_the_authors_write_them(case: Case, row: int) -> None:
    golden = case.meta["time_rewriting"][row]
    assert REWRITES["authors"](golden["text"]) == golden["result"]


@pytest.mark.parametrize(("case", "benchmark"), find_variants("prompts", "examples"))
def test_the_whole_conversation(case: Case, benchmark: str) -> None:
    golden = case.meta["examples"][benchmark]
    pieces: list[str] = []

    def encode(text: str) -> list[int]:
        pieces.append(text)
        return [0]

    chat = ChatText(encode, time_rewrite="authors")
    chat.context([])
    chat.question(Prompt(golden["task_text"]))
    assert IMAGE.join(pieces) == golden["final_prompt"]  # what is tokenised in front of the video, and behind it
