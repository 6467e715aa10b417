"""The miniature: a checkpoint folder in the published layout with tiny widths and random weights, made on first use.

Everything that decides shapes is as released (384-pixel frames, patches of 14, a 24 x 24 grid, 144 tokens a group,
the vision tower's dropped block, digits that are tokens of their own), so that it runs the same code on the same
geometry of tokens and cache. The folder is the same byte for byte wherever it is made with the same library versions.
The output layer is not all random: the first token is an option letter and the second ends the turn, so that replies
are well-formed and scores are those of guessing.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from ..shared.made_once import made_once
from ..shared.qwen2 import Qwen2Decoder
from ..shared.qwen_tokenizer import byte_level_bpe
from .checkpoint import HEAD, TOWER, published_names
from .config import PUBLISHED, read_config
from .mini_folder import miniature
from .vision import Vision

SEED = 1
GAINS = {"mm_projector.2": 0.15, "q_proj": 3.0, "k_proj": 3.0, "o_proj": 4.0}
"""How much larger than of unit variance some weights are: enough for attention to prefer some tokens to others, and for
what it gathers to outweigh the token that gathers, so that replies depend on the video and on the question."""

SHARD_BYTES = 1_000_000
WORDS = 640
"""Size of the vocabulary, special tokens included."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
LETTERS = "ABCD"

CONFIG: dict[str, Any] = PUBLISHED | {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava_qwen",
    "vocab_size": WORDS,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_hidden_size": 64,
    "mm_spatial_pool_out_channels": 64,
    "mm_vision_select_layer": -1,
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 384,
        "patch_size": 14,
    },
}

# The words of the benchmarks, for the tokenizer to learn.
SENTENCES = """
Select the best answer to the following multiple-choice question based on the video and the subtitles. Respond with only
the letter (A, B, C, or D) of the correct option.
Answer with the option's letter from the given choices directly. Only give the best option. Best option: (
What is the person in the video doing when the light turns red? What happens after the man leaves the kitchen?
Which of the following statements about the video is correct? How many times does the woman open the door?
In which order do the following events occur in the video? Why does the driver stop at the side of the road?
What colour is the car that stands next to the house? Who wins the game at the end of the match?
Describe the video in detail. Summarize the main content of this video. Where does the scene take place?
When does the event happen? Give the start time and the end time in seconds. The event happens in 12.0 - 27.5 seconds.
Time 0.0s: Time 4.0s: Time 12.0s: Time 48.0s: Time 236.0s: Time 1024.0s: at 480 seconds, at 75 seconds
You are a helpful assistant. system user assistant
"""


def folder() -> Path:
    """The miniature's checkpoint folder, written first if it is not there. Safe to call from several processes."""
    return made_once(miniature(), write)


def write(place: Path) -> None:
    """The whole checkpoint into the existing folder `place`."""
    tokenizer = train_tokenizer()
    ids = {word: index for word, index in tokenizer.get_vocab().items() if word in (*SPECIAL, *LETTERS)}
    config = CONFIG | {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    _write_json(place / "config.json", config)
    tokenizer.save(str(place / "tokenizer.json"))
    tokenizer.model.save(str(place))  # vocab.json, merges.txt
    _write_json(
        place / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
            "bos_token": None,
            "model_max_length": 32768,
        },
    )
    state = random_weights(place, [ids[letter] for letter in LETTERS], ids["<|im_end|>"])
    save_torch_state_dict(state, place, max_shard_size=SHARD_BYTES)


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE split like Qwen's, learned from SENTENCES, with Qwen's special tokens behind the words."""
    tokenizer = byte_level_bpe(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES.split("\n"), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def random_weights(place: Path, letters: list[int], end: int) -> dict[str, Tensor]:
    """All tensors under their published names, in bfloat16. Each is drawn from a generator seeded by its name."""
    config = read_config(place)
    vision = Vision(config.vision, config.language.hidden_size)
    decoder = Qwen2Decoder(config.language)
    state = {
        key: _random(key, tuple(part.get_parameter(name).shape))
        for key, (part, name) in published_names(vision, decoder).items()
    }
    for leaf in ("weight", "bias"):  # in the released checkpoint, and never used
        key = f"{TOWER}post_layernorm.{leaf}"
        state[key] = _random(key, (config.vision.hidden_size,))
    _answer_in_letters(state, letters, end)
    return {key: tensor.to(torch.bfloat16) for key, tensor in sorted(state.items())}


def _random(key: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(int.from_bytes(sha256(f"{SEED} {key}".encode()).digest()[:6], "big"))
    noise = torch.randn(shape, generator=generator)
    if "norm" in key:
        return noise * 0.1 + (1.0 if key.endswith("weight") else 0.0)
    if len(shape) == 1:
        return noise * 0.1
    if "embed" in key or "encoding" in key:
        return noise
    gain = next((gain for part, gain in GAINS.items() if part in key), 1.0)
    return noise * gain * noise[0].numel() ** -0.5


def _answer_in_letters(state: dict[str, Tensor], letters: list[int], end: int) -> None:
    """Let the first token be the letter of the largest of two opposite pairs of output rows, and the second the end of
    the turn: one direction of the residual stream is only written by the embeddings of letters, and read only by it."""
    head, words = state[HEAD], state["model.embed_tokens.weight"]
    written = torch.nn.functional.normalize(torch.ones(words.shape[1]), dim=0)
    for key, tensor in state.items():
        if key.startswith("model.layers.") and key.endswith(("o_proj.weight", "down_proj.weight")):
            tensor -= torch.outer(written, written @ tensor)
    for rows in (head, words):
        rows -= torch.outer(rows @ written, written)
    state["model.norm.weight"].fill_(1)
    words -= 8 * written
    words[letters] += 20 * written
    one, other = 80 * head[letters[0]], 80 * head[letters[1]]
    head[letters] = torch.stack([one, -one, other, -other])
    head[end] = 300 * written


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
