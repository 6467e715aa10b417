"""Chat template, timestamps, rewritten times, subtitles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from evalkit.errors import ConfigError
from evalkit.models.videoxl2 import mini
from evalkit.models.videoxl2.checkpoint import load_tokenizer
from evalkit.models.videoxl2.text import ChatText, rewrite_authors, rewrite_correct, timestamp
from evalkit.types import Cue, Prompt

PREFIX = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    place = tmp_path_factory.mktemp("mini")
    mini.write(place)
    return load_tokenizer(place)


class Letters:
    """A tokenizer of one token a character, which remembers the pieces it was given."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def __call__(self, text: str) -> list[int]:
        self.pieces.append(text)
        return [ord(letter) for letter in text]


def text_of(ids: tuple[int, ...]) -> str:
    return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("What happens at 08:00?", "What happens at 480 seconds?"),
        ("At 01:02:03 the scene changes.", "At 3723 seconds the scene changes."),
        ("from 1:00:10 to 1:00:50", "from 3610 seconds to 3650 seconds"),
        ("101:02", "6062 seconds"),
        ("00:00", "0 seconds"),
        ("Between 12:34-13:00, who speaks?", "Between 754 seconds-780 seconds, who speaks?"),
        ("12:34.5", "754.5 seconds"),
        ("at 12:34.", "at 754 seconds."),
        ("At 12:30: what is it?", "At 750 seconds: what is it?"),
        ("Time:12:30", "Time:750 seconds"),
        ("the end.12:30 follows", "the end.750 seconds follows"),
        ("A. 00:10\nB. 10:00\nC. 00:100", "A. 10 seconds\nB. 600 seconds\nC. 00:100"),
        # no times: neither form has one digit for the minutes, or seconds past 59
        ("It is 5:30 now.", "It is 5:30 now."),
        ("99:99", "99:99"),
        ("12:3", "12:3"),
        ("ratio 16:9", "ratio 16:9"),
        ("1:2:03", "1:2:03"),
        ("23:5901:02", "23:5901:02"),
        ("00:11:22:33", "00:11:22:33"),
        ("v1.10:20", "v1.10:20"),
    ],
)
def test_correct_rewriting(text: str, result: str) -> None:
    assert rewrite_correct(text) == result


@given(minutes=st.integers(0, 99), seconds=st.integers(0, 59))
def test_both_ways_agree_on_a_plain_time(minutes: int, seconds: int) -> None:
    text = f"What happens at {minutes:02d}:{seconds:02d}?"
    assert rewrite_correct(text) == rewrite_authors(text) == f"What happens at {60 * minutes + seconds} seconds?"


@given(hours=st.integers(0, 12), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_hours_count_in_correct_rewriting(hours: int, minutes: int, seconds: int) -> None:
    for text in (f"at {hours}:{minutes:02d}:{seconds:02d}", f"at {60 * hours + minutes:03d}:{seconds:02d}"):
        assert rewrite_correct(text) == f"at {3600 * hours + 60 * minutes + seconds} seconds"


def test_off_leaves_the_text_and_a_misspelt_mode_is_named() -> None:
    assert "08:00" in ChatText(Letters(), "off").question_text(Prompt("at 08:00"))
    with pytest.raises(ConfigError, match='Did you mean "authors"'):
        ChatText(Letters(), "author")


def test_template_and_answer_prefix() -> None:
    chat = ChatText(Letters())
    assert text_of(chat.context([]).prefix) == PREFIX
    prompt = Prompt("What is it at 00:10?", answer_prefix="Best option: (")
    expected = "\nWhat is it at 10 seconds?<|im_end|>\n<|im_start|>assistant\nBest option: ("
    assert text_of(chat.question(prompt)) == expected
    assert chat.question_text(prompt) == expected
    assert chat.prefix_text("Be brief.") == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"


def test_an_empty_system_text_is_not_the_default_one() -> None:
    assert text_of(ChatText(Letters()).context([], system="").prefix).startswith("<|im_start|>system\n<|im_end|>")


@pytest.mark.parametrize(("time", "text"), [(0, "Time 0.0s:"), (12.34, "Time 12.3s:"), (1e3, "Time 1000.0s:")])
def test_timestamp(time: float, text: str) -> None:
    assert timestamp(time) == text


@given(frames=st.integers(0, 30), at=st.lists(st.integers(0, 40), max_size=8))
def test_subtitles_stand_before_the_group_of_their_frame(frames: int, at: list[int]) -> None:
    encode = Letters()
    cues = [Cue(frame, f"cue {number} at {frame}") for number, frame in enumerate(at)]
    tokens = ChatText(encode).context([float(frame) for frame in range(frames)], cues=cues)
    assert len(tokens.groups) == -(-frames // 4)
    placed: list[str] = []
    for group, ids in enumerate(tokens.groups):
        *lines, stamp = text_of(ids).split("\n")
        assert stamp == f"Time {float(4 * group)}s:"
        assert all(int(line.split()[-1]) // 4 == group for line in lines)
        placed += lines
    after = text_of(tokens.tail).split("\n")
    assert after.pop() == ""
    assert all(int(line.split()[-1]) >= frames for line in after)
    placed += after
    assert sorted(placed) == sorted(cue.text for cue in cues)
    moments = [int(line.split()[-1]) for line in placed]
    assert all(before <= behind for before, behind in pairwise(moments))


def test_each_piece_is_tokenised_by_itself() -> None:
    encode = Letters()
    ChatText(encode).context([0.0, 1.0, 2.0, 3.0, 4.0], cues=[Cue(4, "hello")])
    assert sorted(encode.pieces) == sorted([PREFIX, "Time 0.0s:", "hello\n", "Time 4.0s:"])


@given(tenths=st.integers(0, 10**6))
def test_a_timestamp_has_a_token_for_each_character_of_its_number(
    tokenizer: PreTrainedTokenizerBase, tenths: int
) -> None:
    text = timestamp(tenths / 10)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == 4 + len(text.removeprefix("Time ").removesuffix("s:"))
    assert ids[0] == tokenizer.convert_tokens_to_ids("Time") and ids[-1] == tokenizer.convert_tokens_to_ids(":")


def test_chat_markers_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatText(lambda text: tokenizer.encode(text, add_special_tokens=False))
    prefix = chat.context([]).prefix
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert prefix.count(start) == 2 and prefix.count(end) == 1
    assert tokenizer.decode(prefix) == PREFIX
