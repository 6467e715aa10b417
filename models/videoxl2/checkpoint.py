"""The published checkpoint: `config.json`, tokenizer files, safetensors shards with an index (or a single file).

    model.vision_tower.vision_tower.vision_model.*   SigLIP without its last block
    model.sae.*                                      DTS
    model.mm_projector.*                             projector
    model.embed_tokens, model.layers.*, model.norm   Qwen2.5
    lm_head                                          its output layer

Names and shapes are compared before any weight is read; then tensors go one by one into modules that were built
without memory, so that loading needs no more than the weights themselves. Key names: the module structure of
`LlavaQwenForCausalLM` in github.com/VectorSpaceLab/Video-XL (Video-XL-2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from evalkit.errors import CheckpointError

from ..shared.qwen2 import Qwen2Decoder
from .config import ModelConfig, read_config, read_json
from .folder import INDEX, SINGLE
from .text import END_OF_TURN
from .vision import Vision, kept_blocks

TOWER = "model.vision_tower.vision_tower.vision_model."
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Loaded:
    """Both halves of the model, on their device and ready to compute, and the tokenizer."""

    config: ModelConfig
    vision: Vision
    decoder: Qwen2Decoder
    tokenizer: PreTrainedTokenizerBase


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
    load_weights(folder, config, vision, decoder, dtype, device)
    return Loaded(config, vision.eval(), decoder.eval(), load_tokenizer(folder))


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


def load_weights(
    folder: Path, config: ModelConfig, vision: Vision, decoder: nn.Module, dtype: torch.dtype, device: torch.device
) -> None:
    """Fill the two halves, tensor by tensor, cast to `dtype` on `device`."""
    places = published_names(vision, decoder)
    tied = bool(config.language.tie_word_embeddings)
    if tied:
        del places[HEAD]

    files = Files(folder)
    ignored = ignored_keys(kept_blocks(config.vision), tied)
    check_keys(
        folder,
        wanted={key: tuple(part.get_parameter(name).shape) for key, (part, name) in places.items()},
        found={key: shape for key, shape in files.shapes.items() if not ignored.fullmatch(key)},
    )
    for key, tensor in files.tensors(places, device):
        part, name = places[key]
        _assign(part, name, tensor.to(dtype))
    if tied:
        _assign(decoder, HEAD, decoder.get_parameter("embed_tokens.weight"))


def published_names(vision: Vision, decoder: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Where every tensor of the checkpoint belongs: published name -> (module, name of the parameter in it)."""
    parts = {TOWER: vision.tower, "model.sae.": vision.dts, "model.mm_projector.": vision.projector, "model.": decoder}
    return {
        name if name == HEAD else prefix + name: (part, name)
        for prefix, part in parts.items()
        for name, _ in part.named_parameters()
    }


def ignored_keys(blocks: int, tied: bool) -> re.Pattern[str]:
    """Keys that a checkpoint may have and the model does not use: a text projector that is never called, SigLIP's last
    block, final norm and pooling head, rotary tables, and the alias of tied embeddings."""
    tower = re.escape(TOWER)
    unused = [
        r"model\.text_mlp\..+",
        rf"{tower}head\..+",
        rf"{tower}post_layernorm\.(weight|bias)",
        rf"{tower}encoder\.layers\.{blocks}\..+",
        r".+\.rotary_emb\.inv_freq",
    ]
    return re.compile("|".join(unused + ([r"lm_head\.weight"] if tied else [])))


def check_keys(folder: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Every wanted tensor is there with its shape, and nothing else is. Raises CheckpointError naming what differs."""
    missing = [key for key in wanted if key not in found]
    unknown = [key for key in found if key not in wanted]
    misshaped = [
        f"{key} is {list(found[key])} and should be {list(shape)}"
        for key, shape in wanted.items()
        if key in found and found[key] != shape
    ]
    problems = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", misshaped))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{folder} does not hold the weights of a Video-XL-2 as its config.json describes it. Tensors "
            + "; ".join(problems)
            + ". Is this the complete BAAI/Video-XL-2, and not another stage or model?"
        )


class Files:
    """The safetensors files of a folder: which file holds which tensor, and of which shape."""

    def __init__(self, folder: Path) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._of_file: dict[Path, list[str]] = {}
        for file, promised in _files(folder).items():
            with _opened(file, "cpu") as tensors:
                names = list(tensors.keys())
                self.shapes.update({name: tuple(tensors.get_slice(name).get_shape()) for name in names})
            self._of_file[file] = names
            if lost := sorted(set(promised) - set(names)):
                raise CheckpointError(f"{file} lacks {_some(lost)}, which {INDEX} says it holds. Fetch the file again.")

    def tensors(self, names: Iterable[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and tensor on `device`, one at a time."""
        wanted = set(names)
        for file, held in self._of_file.items():
            with _opened(file, str(device)) as tensors:
                for name in held:
                    if name in wanted:
                        tensor = tensors.get_tensor(name)
                        if not tensor.is_floating_point():
                            raise CheckpointError(
                                f"{file}: {name} is {tensor.dtype}; quantised weights are not supported."
                            )
                        yield name, tensor


def _files(folder: Path) -> dict[Path, list[str]]:
    """File -> the tensors that the index promises in it."""
    index = folder / INDEX
    if not index.is_file():
        if (folder / SINGLE).is_file():
            return {folder / SINGLE: []}
        if list(folder.glob("*.bin")):
            raise CheckpointError(
                f"{folder} holds .bin weights only: evalkit reads safetensors, which cannot run code."
            )
        raise CheckpointError(f"{folder} holds no weights: neither {INDEX} nor {SINGLE} is there.")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map. Fetch the file again.")
    files: dict[Path, list[str]] = {}
    for name, file in weight_map.items():
        files.setdefault(folder / str(file), []).append(name)
    if absent := sorted(file.name for file in files if not file.is_file()):
        raise CheckpointError(f"{folder} lacks {len(absent)} of {len(files)} weight files: {_some(absent)}.")
    return files


def _opened(file: Path, device: str) -> Any:
    try:
        return safe_open(file, framework="pt", device=device)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). It is probably cut short: fetch it again.") from error


def _assign(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


def _some(names: list[str], shown: int = 5) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
