"""Frames of a video as the processor of a checkpoint takes them, and what it is told about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evalkit.errors import ConfigError, suggest
from evalkit.types import FramePlan, FrameStream, Video

from .settings import PixelSettings

BATCH = 16


def read_frames(stream: FrameStream) -> torch.Tensor:
    """All frames of a video, uint8 `[n, 3, height, width]`. Raises VideoError."""
    batches = [torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous() for batch in stream.batches(BATCH)]
    return torch.cat(batches)


def metadata_of(video: Video, plan: FramePlan) -> dict[str, Any]:
    """`video_metadata` for the processor: `frames_indices / fps` are seconds of the file, and `total_num_frames` counts
    the frames of the part that is shown, from which processors take how many frames a second were sampled."""
    first = 0 if video.start_s is None else max(0, round(video.start_s * plan.native_fps))
    last = plan.frame_count - 1
    if video.end_s is not None:
        last = min(last, round(video.end_s * plan.native_fps))
    count = last - first + 1
    return {
        "total_num_frames": count,
        "fps": plan.native_fps,
        "duration": count / plan.native_fps,
        "frames_indices": list(plan.indices),
        "video_backend": "evalkit",
    }


def check_pixels(pixels: PixelSettings, processor: Any) -> None:
    """Raises ConfigError for a pixel budget that the video processor would undo or could not take."""
    if not pixels.given:
        return
    patch, merge = getattr(processor, "patch_size", None), getattr(processor, "merge_size", None)
    if not isinstance(patch, int) or not isinstance(merge, int):
        raise ConfigError(
            f"pixels: {type(processor).__name__} resizes every frame to the one size that its model takes, so a pixel "
            "budget would be ignored. Leave pixels.per_frame_max, per_frame_min and total_max null."
        )
    if pixels.multiple_of != patch * merge:
        raise ConfigError(
            f"pixels.multiple_of={pixels.multiple_of}, but this model joins {merge} x {merge} patches of {patch} pixels"
            f" into a token: set pixels.multiple_of={patch * merge}."
        )


def check_arguments(given: Mapping[str, Any], processor: Any) -> None:
    """Raises ConfigError for an argument that the video processor does not know and would ignore."""
    known = processor.valid_kwargs.__annotations__
    for name in given:
        if name not in known:
            raise ConfigError(
                f"processor.{name}: {type(processor).__name__} has no such argument.{suggest(name, known)} There are: "
                f"{', '.join(sorted(known))}."
            )
