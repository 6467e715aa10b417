"""The miniature of `model=hf_vlm_mini`: a Qwen2.5-VL of tiny widths with random weights, written on first use as a
checkpoint folder like that of the hub: configuration, weights, tokenizer, processor and chat template.

Replies are an option letter and the end of the turn, so that scores are those of guessing.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers

from evalkit.paths import cache_dir

from ..shared.made_once import made_once
from .checkpoint import need_torchvision

SEED = 1
PATCH = 14
LETTERS = "ABCD"
END = "<|im_end|>"
SPECIAL = ("<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
SENTENCES = """
You are a helpful assistant. system user assistant
Select the best answer to the following multiple-choice question based on the video and the subtitles. Respond with only
the letter (A, B, C, or D) of the correct option. Answer with the option's letter from the given choices directly.
What is the person in the video doing? What happens after the man leaves? How many times does the woman open the door?
Describe the video in detail. When does the event happen? Give the start time and the end time in seconds.
"""

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As that of Qwen2.5-VL-Instruct, for videos and text."""


def folder() -> Path:
    """The miniature's checkpoint folder, written first if it is not there. Safe to call from several processes."""
    version = sha256(Path(__file__).read_bytes() + transformers.__version__.encode()).hexdigest()[:12]
    return made_once(cache_dir() / "models" / f"hf_vlm_mini-{version}", write)


def write(place: Path) -> None:
    """The whole checkpoint into the existing folder `place`."""
    need_torchvision()
    tokenizer = train_tokenizer(SENTENCES, SPECIAL, END)
    network = transformers.Qwen2_5_VLForConditionalGeneration(config(tokenizer))
    randomize(network)
    answer_in_letters(network, [tokenizer.encode(letter)[0] for letter in LETTERS], tokenizer.eos_token_id)
    network.generation_config = transformers.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    size = {"shortest_edge": 4 * PATCH * PATCH, "longest_edge": 64 * PATCH * PATCH}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(size=size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=TEMPLATE,
    )
    network.save_pretrained(place)
    processor.save_pretrained(place)


def train_tokenizer(text: str, special: tuple[str, ...], end: str) -> Any:
    """A tokenizer of Qwen2's class with a vocabulary of a few hundred, learned from `text`."""
    tokenizer = transformers.Qwen2Tokenizer().train_new_from_iterator(
        text.split("\n"), vocab_size=400, new_special_tokens=list(special), show_progress=False
    )
    tokenizer.eos_token = end
    return tokenizer


def config(tokenizer: Any) -> Any:
    ids = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    }
    return transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
    )


def randomize(network: torch.nn.Module) -> None:
    """Weights large enough for replies to depend on the video and on the question; the same on every machine."""
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in sorted(network.named_parameters()):
        if parameter.dim() > 1:
            scale = 1.0 if "embed" in name else parameter[0].numel() ** -0.5
            gain = 3.0 if name.endswith(("q_proj.weight", "k_proj.weight", "o_proj.weight")) else 1.0
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale * gain


@torch.no_grad()
def answer_in_letters(network: Any, letters: list[int], end: int) -> None:
    """Let the first token be the letter of the largest of two opposite pairs of output rows, and the second the end of
    the turn: one direction of the residual stream is only written by the embeddings of letters, and read only by it."""
    language, head = network.model.language_model, network.lm_head.weight
    words = language.embed_tokens.weight
    written = torch.nn.functional.normalize(torch.ones(words.shape[1]), dim=0)
    for layer in language.layers:
        for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            weight -= torch.outer(written, written @ weight)
    last = network.model.visual.merger.mlp[-1]
    last.weight -= torch.outer(written, written @ last.weight)
    for rows in (head, words):
        rows -= torch.outer(rows @ written, written)
    words -= 8 * written
    words[letters] += 20 * written
    one, other = 80 * head[letters[0]], 80 * head[letters[1]]
    head[letters] = torch.stack([one, -one, other, -other])
    head[end] = 300 * written
