"""The vision half of Video-XL-2: frames to visual tokens.

frames [n, 384, 384, 3] -> SigLIP, 26 of its 27 blocks [n, 729, 1152] -> 24 x 24 grid -> DTS [G, 1152, 24, 24]
                        -> projector [G, 576, D] -> 2 x 2 average [G, 144, D],   G = ceil(n / 4)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..shared.torchvision_import import import_torchvision
from .dts import DTS
from .geometry import GRID, GROUP_FRAMES, POOL
from .pixels import pixel_values

import_torchvision()  # before transformers, which would import it as it is

from transformers import SiglipVisionConfig  # noqa: E402
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer  # noqa: E402


class Patches(nn.Module):
    """Patch and position embedding. A remainder of the image that fills no patch is not covered."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        image, patch = config.image_size, config.patch_size
        assert isinstance(image, int) and isinstance(patch, int), "frames are square"
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)
        self.position_embedding = nn.Embedding((image // patch) ** 2, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[n, 3, H, W]` -> `[n, patches, C]`."""
        return self.patch_embedding(pixels).flatten(2).transpose(1, 2) + self.position_embedding.weight


class Encoder(nn.Module):
    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([SiglipEncoderLayer(config) for _ in range(kept_blocks(config))])


class Tower(nn.Module):
    """SigLIP without its last block, its final layer norm and its pooling head: the features are what
    transformers' `SiglipVisionModel` calls `hidden_states[-2]`."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.embeddings = Patches(config)
        self.encoder = Encoder(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[n, 3, H, W]` -> `[n, patches, C]`. One tensor is alive at a time."""
        hidden = self.embeddings(pixels)
        for block in self.encoder.layers:
            hidden = block(hidden, attention_mask=None)
        return hidden


def kept_blocks(config: SiglipVisionConfig) -> int:
    """A configuration counts the last block, which Video-XL-2 neither uses nor ships."""
    return int(config.num_hidden_layers) - 1


def resize_grid(features: Tensor, size: int = GRID) -> Tensor:
    """`[n, side*side, C]` -> `[n, C, size, size]`, bilinear with corners not aligned, computed in float32."""
    patches = features.shape[1]
    side = round(patches**0.5)
    assert side * side == patches, patches
    grid = features.transpose(1, 2).unflatten(2, (side, side)).float()
    return F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False).to(features.dtype)


class Vision(nn.Module):
    """Frames to visual tokens of width `width`, `batch` frames at a time on the device.

    `tower`, `dts` and `projector` hold the checkpoint's `model.vision_tower.vision_tower.vision_model.*`,
    `model.sae.*` and `model.mm_projector.*`.
    """

    def __init__(self, config: SiglipVisionConfig, width: int, batch: int = 32) -> None:
        super().__init__()
        assert batch % GROUP_FRAMES == 0, f"a batch of {batch} frames would cut a group of {GROUP_FRAMES}"
        self.batch = batch
        self.tower = Tower(config)
        self.dts = DTS(config.hidden_size)
        self.projector = nn.Sequential(nn.Linear(config.hidden_size, width), nn.GELU(), nn.Linear(width, width))

    @property
    def device(self) -> torch.device:
        return self.dts.temporal_encoding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.dts.temporal_encoding.dtype

    @torch.inference_mode()
    def encode(self, frames: np.ndarray | Tensor) -> Tensor:
        """uint8 `[n, H, W, 3]` -> `[ceil(n/4), 144, width]`. A video may come in pieces: n must be a multiple of four
        except in the last, whose last frame is repeated to fill its group."""
        return torch.cat(
            [self(pixel_values(frames[at : at + self.batch], self.device)) for at in range(0, len(frames), self.batch)]
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """`[n, 3, H, W]` -> `[ceil(n/4), 144, width]`."""
        return self.pool(self.project(self.dts(self.grid(self.tower(pixels.to(self.dtype))))))

    def grid(self, features: Tensor) -> Tensor:
        """`[n, patches, C]` -> `[n, C, 24, 24]`."""
        return resize_grid(features)

    def project(self, maps: Tensor) -> Tensor:
        """`[G, C, 24, 24]` -> `[G, 576, width]`."""
        return self.projector(maps.flatten(2).transpose(1, 2))

    def pool(self, tokens: Tensor) -> Tensor:
        """`[G, 576, width]` -> `[G, 144, width]`: the mean over 2 x 2 positions, in row-major order."""
        maps = tokens.unflatten(1, (GRID // POOL, POOL, GRID // POOL, POOL))
        return maps.mean(dim=(2, 4)).flatten(1, 2)
