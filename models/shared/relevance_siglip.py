"""Relevance by SigLIP (Zhai et al., arXiv:2303.15343): how well any frame of a chunk matches the question's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evalkit.errors import CheckpointError

from .relevance import Observer, RelevanceQuery, Scored
from .torchvision_import import import_torchvision

import_torchvision()  # before transformers, which would import it as it is

from transformers import AutoTokenizer, SiglipModel  # noqa: E402

BATCH = 32


class SiglipTowers:
    """Text and vision tower of a SigLIP checkpoint (folder or hub id). Raises CheckpointError."""

    def __init__(self, checkpoint: str, device: torch.device, dtype: torch.dtype) -> None:
        try:
            model: Any = SiglipModel.from_pretrained(checkpoint, dtype=dtype)
            self.model = model.to(device).eval()
            self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"relevance.model={checkpoint} cannot be loaded as a SigLIP with text and vision tower: {error}"
            ) from error
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def images(self, frames: np.ndarray) -> Tensor:
        """uint8 `[n, H, W, 3]` -> unit vectors `[n, D]`."""
        size = int(self.model.config.vision_config.image_size)
        pixels = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float()
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(0, 255)
        out = self.model.vision_model(pixel_values=(pixels / 127.5 - 1).to(self.dtype)).pooler_output
        return F.normalize(out.float(), dim=-1)

    @torch.inference_mode()
    def text(self, text: str) -> Tensor:
        """A unit vector `[D]`. Padded to the full length, as SigLIP was trained; longer texts are cut."""
        length = int(self.model.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        out = self.model.text_model(input_ids=tokens["input_ids"].to(self.device)).pooler_output
        return F.normalize(out[0].float(), dim=-1)


@dataclass
class FrameVectors(Observer):
    """Vectors of the frames seen so far, `[frames, D]` once joined."""

    siglip: SiglipTowers
    vectors: list[Tensor] = field(default_factory=list)

    def see(self, frames: np.ndarray) -> None:
        self.vectors.extend(self.siglip.images(frames[at : at + BATCH]) for at in range(0, len(frames), BATCH))


@dataclass
class SiglipRelevance(Scored):
    """A chunk scores as its best frame. `group_frames`: frames of a group."""

    siglip: Any = None
    group_frames: int = 4

    def observer(self) -> Observer:
        return FrameVectors(self.siglip)

    def scores(self, asked: RelevanceQuery, chunks: Sequence[range]) -> Sequence[float]:
        assert isinstance(asked.observer, FrameVectors)
        similarity = torch.cat(asked.observer.vectors) @ self.siglip.text(asked.question)
        n = self.group_frames
        return [float(similarity[chunk[0] * n : (chunk[-1] + 1) * n].max()) for chunk in chunks]
