"""The published checkpoint: `config.json`, tokenizer files, safetensors shards with an index (or a single file).

    model.vision_tower.vision_tower.vision_model.*   SigLIP without its last block
    model.sae.*                                      DTS
    model.mm_projector.*                             projector
    model.embed_tokens, model.layers.*, model.norm   Qwen2.5
    lm_head                                          its output layer

Key names: the module structure of `LlavaQwenForCausalLM` in github.com/VectorSpaceLab/Video-XL (Video-XL-2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from evalkit.errors import CheckpointError

from ..shared.generation_config import GenerationConfig, read_generation_config
from ..shared.qwen2 import Qwen2Decoder
from ..shared.weights import assign, load_weights
from .config import ModelConfig, read_config
from .text import END_OF_TURN
from .vision import Vision, kept_blocks

TOWER = "model.vision_tower.vision_tower.vision_model."
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Loaded:
    """Both halves of the model, on their device and ready to compute, the tokenizer, and the checkpoint's own settings
    of token generation. `remarks`: what in the folder is not used."""

    config: ModelConfig
    vision: Vision
    decoder: Qwen2Decoder
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    remarks: tuple[str, ...] = ()


def load(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attention: str = "sdpa",
    vision_batch: int = 32,
) -> Loaded:
    """Read the checkpoint in `folder`. Raises CheckpointError."""
    config = read_config(folder)
    config.vision._attn_implementation = attention
    with torch.device("meta"):
        vision = Vision(config.vision, config.language.hidden_size, batch=vision_batch)
        decoder = Qwen2Decoder(config.language)
    places = published_names(vision, decoder)
    tied = bool(config.language.tie_word_embeddings)
    if tied:
        del places[HEAD]
    ignored = ignored_keys(kept_blocks(config.vision), tied)
    remarks = config.remarks + load_weights(folder, places, ignored, dtype, device, "Video-XL-2")
    if tied:
        assign(decoder, HEAD, decoder.get_parameter("embed_tokens.weight"))
    generation = read_generation_config(folder)
    return Loaded(config, vision.eval(), decoder.eval(), load_tokenizer(folder), generation, remarks)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the checkpoint, which must know the chat markers as single tokens. Raises CheckpointError."""
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({error}). Are its files complete?") from error
    for marker in ("<|im_start|>", END_OF_TURN):
        if len(tokenizer.encode(marker, add_special_tokens=False)) != 1:
            raise CheckpointError(f"{folder}: the tokenizer does not know {marker} as one token, so it is not Qwen's.")
    return tokenizer


def published_names(vision: Vision, decoder: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Where every tensor of the checkpoint belongs: published name -> (module, name of the parameter in it)."""
    parts = {TOWER: vision.tower, "model.sae.": vision.dts, "model.mm_projector.": vision.projector, "model.": decoder}
    return {
        name if name == HEAD else prefix + name: (part, name)
        for prefix, part in parts.items()
        for name, _ in part.named_parameters()
    }


def ignored_keys(blocks: int, tied: bool) -> re.Pattern[str]:
    """Keys that a released checkpoint may have and the model does not use: a text projector that is never called,
    SigLIP's last block, final norm and pooling head, rotary tables, and the alias of tied embeddings."""
    tower = re.escape(TOWER)
    unused = [
        r"model\.text_mlp\..+",
        rf"{tower}head\..+",
        rf"{tower}post_layernorm\.(weight|bias)",
        rf"{tower}encoder\.layers\.{blocks}\..+",
        r".+\.rotary_emb\.inv_freq",
    ]
    return re.compile("|".join(unused + ([r"lm_head\.weight"] if tied else [])))
