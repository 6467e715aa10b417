"""The vocabulary of Qwen2.5 as published, where a copy lies beside the repository: prefix and timestamp lengths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from evalkit.models.shared.qwen_tokenizer import read_tokenizer
from evalkit.models.videoxl2.checkpoint import load_tokenizer
from evalkit.models.videoxl2.estimate import pieces
from evalkit.models.videoxl2.text import ChatText, timestamp

FOLDER = Path(os.environ.get("EVALKIT_TOKENIZER") or Path(__file__).resolve().parents[3] / "shared" / "tokenizer")

pytestmark = pytest.mark.skipif(
    not (FOLDER / "vocab.json").is_file(), reason=f"no vocabulary at {FOLDER}: set EVALKIT_TOKENIZER to its folder"
)
TIMES = [0.0, 9.9, 10.0, 59.9, 99.9, 100.0, 999.9, 1000.0, 9999.9, 12345.6]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(FOLDER)


@pytest.fixture(scope="module")
def counting() -> Tokenizer:
    found = read_tokenizer(FOLDER)
    assert found is not None
    return found


def test_it_is_the_layout_without_tokenizer_json() -> None:
    assert not (FOLDER / "tokenizer.json").exists()


def test_the_prefix_has_14_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatText(lambda text: tokenizer.encode(text, add_special_tokens=False))
    prefix = chat.context([]).prefix
    assert len(prefix) == 14 and prefix[0] == 151644
    assert tokenizer.decode(prefix) == chat.prefix_text(None)


@pytest.mark.parametrize("time_s", TIMES)
def test_lengths_of_timestamps(tokenizer: PreTrainedTokenizerBase, time_s: float) -> None:
    ids = tokenizer.encode(timestamp(time_s), add_special_tokens=False)
    assert len(ids) == 4 + len(str(time_s)) == len(pieces(timestamp(time_s)))
    assert (ids[0], ids[-1]) == (1462, 25)


def test_the_dry_run_counts_with_the_same_ids(tokenizer: PreTrainedTokenizerBase, counting: Tokenizer) -> None:
    texts = [timestamp(time_s) for time_s in TIMES]
    texts += ["<|im_start|>user\nWhat's happening at 12:30?\n(A) naïve 你好\n\n<|im_end|>\n", "It doesn't.   \n x"]
    for text in texts:
        expected = tokenizer.encode(text, add_special_tokens=False)
        assert counting.encode(text, add_special_tokens=False).ids == expected, text
