"""Frames to the pixel values of SigLIP: (x/255 - 0.5) / 0.5.

Frames arrive already resized to the tower's size (Pillow, bicubic, on uint8), as the frame reader does while decoding.
"""

from __future__ import annotations

import numpy as np
import torch

RESAMPLE = "bicubic"


def pixel_values(frames: np.ndarray | torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 `[n, H, W, 3]` -> float32 `[n, 3, H, W]` in [-1, 1] on `device`; only bytes travel there."""
    if isinstance(frames, np.ndarray) and not frames.flags.writeable:
        frames = frames.copy()  # torch shares memory only with arrays it may write to
    pixels = torch.as_tensor(frames)
    assert pixels.dtype == torch.uint8 and pixels.ndim == 4 and pixels.shape[-1] == 3, (pixels.dtype, pixels.shape)
    pixels = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255).sub_(0.5).div_(0.5)
