"""Qwen's tokenizer, from the files of a checkpoint, without transformers: to count tokens where nothing is generated.

A checkpoint has `tokenizer.json`, or `vocab.json` and `merges.txt` with the added tokens in `tokenizer_config.json` or
`added_tokens.json`. Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from evalkit.errors import CheckpointError

from .json_file import read_json

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pieces of text (words, single digits, marks) that no token of Qwen's crosses, in the syntax of `tokenizers`."""


def byte_level_bpe(model: Any) -> Tokenizer:
    """Byte-level BPE split as Qwen's, without added tokens. `model`: a `tokenizers.models.BPE`."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer in `folder`, None where it has no files of one. Raises CheckpointError for broken files."""
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole))
        if not (vocabulary.is_file() and merges.is_file()):
            return None
        tokenizer = byte_level_bpe(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # `tokenizers` raises plain Exception
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({error}). Are its files complete?") from error
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in added_tokens(folder)])
    return tokenizer


def added_tokens(folder: Path) -> list[str]:
    """The words that are tokens beside the vocabulary, such as <|im_start|>, in the order of their ids."""
    config, added = folder / "tokenizer_config.json", folder / "added_tokens.json"
    ids: dict[str, int] = {}
    if config.is_file():
        decoder = read_json(config).get("added_tokens_decoder") or {}
        ids |= {str(token["content"]): int(number) for number, token in decoder.items()}
    if added.is_file():
        ids |= {word: int(number) for word, number in read_json(added).items()}
    return sorted(ids, key=ids.__getitem__)
