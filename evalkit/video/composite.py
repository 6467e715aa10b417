"""Videos that are assembled for one question: frames of a longer video with one picture inserted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from evalkit.errors import VideoError
from evalkit.types import Composite, FramePlan, FrameRequest

from .info import Decoder, VideoInfo
from .pictures import read_picture
from .sampling import RESAMPLING, sample


def composite_plan(
    path: Path, info: VideoInfo, composite: Composite, request: FrameRequest
) -> tuple[FramePlan, list[int]]:
    """The plan of a composite video, and the indices of the frames that it takes from `path`. Raises VideoError."""
    extra = int(composite.image is not None)
    wanted = composite.frames + -(composite.frames + extra) % request.multiple_of
    picked = sample(FrameRequest(composite.rule, wanted), info.frame_count, info.native_fps).indices
    if len(picked) < wanted:
        raise VideoError(
            f"{path} is too short: the rule {composite.rule} finds {len(picked)} frames in its "
            f"{info.duration_s:.0f} s, and {wanted} are wanted; use a longer video or fewer frames.",
            "too_short",
        )
    total = wanted + extra
    return FramePlan(tuple(range(total)), tuple(map(float, range(total))), 1.0, total, composite.rule), list(picked)


class CompositeVideo:
    """The video that `composite` describes, made of frames of `inner`: one frame a second, all of which are read.

    A model that reads groups of frames drops an incomplete last group, and with it a picture at the end; so a few more
    frames of `inner` are taken, to fill the groups. The picture follows `int(depth * n)` of the n frames of `inner`.
    """

    def __init__(self, path: Path, inner: Decoder, composite: Composite, request: FrameRequest) -> None:
        self._inner, self._request = inner, request
        self.plan, self._picked = composite_plan(path, inner.info, composite, request)
        extra = len(self.plan) - len(self._picked)
        self._at = int(composite.depth * len(self._picked)) if extra else None
        self._image = read_picture(composite.image) if composite.image is not None else None
        total = len(self.plan)
        self.name, self.remarks = inner.name, inner.remarks
        self.info = replace(inner.info, frame_count=total, native_fps=1.0, duration_s=float(total))

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index; ascending and distinct."""
        at = self._at
        wanted = [self._picked[i if at is None or i < at else i - 1] for i in indices if i != at]
        others = self._inner.frames(wanted) if wanted else iter(())
        for i in indices:
            yield self._inserted() if i == at else next(others)

    def close(self) -> None:
        self._inner.close()

    def _inserted(self) -> np.ndarray:
        """The picture, in the video's size unless frames are resized anyway."""
        assert self._image is not None
        if self._request.resize is not None:
            return self._image
        size = (self.info.width, self.info.height)
        return np.asarray(Image.fromarray(self._image).resize(size, RESAMPLING[self._request.resample]))
