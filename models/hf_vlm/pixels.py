"""Frames of a video at the size that the pixel budget allows."""

from __future__ import annotations

import math
from typing import Any

import torch

from evalkit.errors import ConfigError
from evalkit.types import FrameStream

from .settings import PixelSettings

BATCH = 16
"""Frames that are resized together, so that only resized frames are kept."""


class FrameSizes:
    """Sizes under a budget for a video processor that takes any multiple of a patch (`patch_size * merge_size`)."""

    def __init__(self, processor: Any, pixels: PixelSettings) -> None:
        patch, merge = getattr(processor, "patch_size", None), getattr(processor, "merge_size", None)
        self.any_size = isinstance(patch, int) and isinstance(merge, int)
        self.factor = patch * merge if isinstance(patch, int) and isinstance(merge, int) else 1
        self.processor, self.pixels = processor, pixels
        if pixels.given and not self.any_size:
            raise ConfigError(
                f"pixels: {type(processor).__name__} resizes every frame to the one size that its model takes "
                f"({dict(processor.size)}), so a pixel budget does nothing. Leave all settings of pixels null."
            )

    def of(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """(height, width) for each of `frames` frames: the proportions are kept as far as multiples of a patch
        allow (`smart_resize` of github.com/QwenLM/Qwen3-VL, qwen-vl-utils)."""
        factor, least = self.factor, self.pixels.min_per_frame or 1
        limits = [limit for limit in (self.pixels.max_per_frame, self._share(frames)) if limit is not None]
        most = min(limits, default=None)
        rounded = max(factor, round(height / factor) * factor), max(factor, round(width / factor) * factor)
        if most is not None and rounded[0] * rounded[1] > most:
            scale = math.sqrt(most / (height * width)) / factor
            return max(1, math.floor(height * scale)) * factor, max(1, math.floor(width * scale)) * factor
        if rounded[0] * rounded[1] < least:
            scale = math.sqrt(least / (height * width)) / factor
            return math.ceil(height * scale) * factor, math.ceil(width * scale) * factor
        return rounded

    def resized(self, frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """As the processor resizes, with its own filter."""
        from transformers.image_utils import SizeDict
        from transformers.video_processing_utils import BaseVideoProcessor

        resample = self.processor.resample
        size = SizeDict(height=height, width=width)
        return BaseVideoProcessor.resize(self.processor, frames, size=size, resample=resample)

    def _share(self, frames: int) -> int | None:
        return None if self.pixels.max_total is None else self.pixels.max_total // frames


def read_frames(stream: FrameStream, sizes: FrameSizes) -> torch.Tensor:
    """All frames of a video, uint8 `[n, 3, height, width]`, resized where there is a budget."""

    batches = []
    for batch in stream.batches(BATCH):
        frames = torch.from_numpy(batch).permute(0, 3, 1, 2)
        if sizes.pixels.given:
            size = sizes.of(frames.shape[2], frames.shape[3], len(stream.plan))
            frames = sizes.resized(frames, *size)
        batches.append(frames.contiguous())
    return torch.cat(batches)
