"""Frames as parts of a chat message: JPEG, in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from evalkit.types import Context, Cue, FramePlan

from .settings import FrameSettings

_BATCH = 8

Part = dict[str, Any]


def encoded(context: Context, settings: FrameSettings) -> list[str]:
    """All frames of a video as JPEG in base64, in order. Raises VideoError."""
    quality = settings.jpeg_quality
    return [jpeg(frame, quality) for batch in context.frames.batches(_BATCH) for frame in batch]


def jpeg(frame: np.ndarray, quality: int) -> str:
    """One frame, uint8 [height, width, 3] RGB, as JPEG in base64."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=quality)
    return base64.b64encode(out.getvalue()).decode("ascii")


def video_parts(frames: Sequence[str], cues: Sequence[Cue], settings: FrameSettings) -> list[Part]:
    """The frames and the subtitles between them, as parts of the user's message. Subtitles need frames as images."""
    if settings.send_as == "video_url":
        assert not cues, "a video part has no place for subtitles"
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(frames)}"}}]
    detail = {"detail": settings.detail} if settings.detail else {}
    parts: list[Part] = []
    for first, last, text in segments(len(frames), cues):
        parts += [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{frame}", **detail}}
            for frame in frames[first:last]
        ]
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def segments(count: int, cues: Sequence[Cue]) -> Iterator[tuple[int, int, str]]:
    """(first, last, text): the frames first to last - 1, and the subtitle that follows them ('' after the last)."""
    at = 0
    for cue in sorted(cues, key=lambda cue: cue.at):
        yield at, cue.at, cue.text
        at = cue.at
    if at < count:
        yield at, count, ""


def times(plan: FramePlan) -> dict[str, Any]:
    """The request field that tells vLLM which frames of which video a video part holds. Without `num_frames` vLLM
    keeps only the first 32 (vllm/multimodal/media/video.py, `VideoMediaIO.load_base64`)."""
    video = {
        "num_frames": len(plan),
        "fps": plan.native_fps,
        "frames_indices": list(plan.indices),
        "total_num_frames": plan.frame_count,
        "duration": plan.frame_count / plan.native_fps,
    }
    return {"media_io_kwargs": {"video": video}}


def as_text(context: Context, settings: FrameSettings) -> str:
    """What is sent before the question, in words, for the record: system text, frames and subtitles."""
    lines = [context.system] if context.system else []
    for first, last, text in segments(len(context.frames.plan), context.cues):
        if first < last:
            lines.append(f"[frames {first} to {last - 1} as {settings.send_as}]")
        if text:
            lines.append(text)
    return "\n".join(lines)
