"""A needle in a haystack: frames of a long video with one picture put among them."""

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
    """The frames of a composite video, and which frames of the long one are its haystack. Raises VideoError."""
    extra = int(composite.image is not None)
    haystack = composite.frames + -(composite.frames + extra) % request.multiple_of
    picked = sample(FrameRequest(composite.rule, haystack), info.frame_count, info.native_fps).indices
    if len(picked) < haystack:
        raise VideoError(
            f"{path} is too short: the rule {composite.rule} finds {len(picked)} frames in its "
            f"{info.duration_s:.0f} s, and {haystack} are wanted; use a longer video or fewer frames.",
            "too_short",
        )
    total = haystack + extra
    return FramePlan(tuple(range(total)), tuple(map(float, range(total))), 1.0, total, composite.rule), list(picked)


class CompositeVideo:
    """`inner` as `composite` wants it: a video of its own, one frame a second, all of which are to be read.

    A model that reads groups of frames would drop an incomplete last one, and with it a picture that stands at the end;
    so the haystack grows by the few frames that fill the groups. The picture follows `int(depth * haystack)` frames.
    """

    def __init__(self, path: Path, inner: Decoder, composite: Composite, request: FrameRequest) -> None:
        self._inner, self._request = inner, request
        self.plan, self._picked = composite_plan(path, inner.info, composite, request)
        extra = len(self.plan) - len(self._picked)
        self._at = int(composite.depth * len(self._picked)) if extra else None
        self._image = read_picture(composite.image) if composite.image is not None else None
        total = len(self.plan)
        self.name = inner.name
        self.info = replace(inner.info, frame_count=total, native_fps=1.0, duration_s=float(total))

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index; ascending and distinct."""
        at = self._at
        wanted = [self._picked[i if at is None or i < at else i - 1] for i in indices if i != at]
        haystack = self._inner.frames(wanted) if wanted else iter(())
        for i in indices:
            yield self._needle() if i == at else next(haystack)

    def close(self) -> None:
        self._inner.close()

    def _needle(self) -> np.ndarray:
        """The picture; in the video's size where the model asks for no other."""
        assert self._image is not None
        if self._request.size is not None:
            return self._image
        size = (self.info.width, self.info.height)
        return np.asarray(Image.fromarray(self._image).resize(size, RESAMPLING[self._request.resample]))
