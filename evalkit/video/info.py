"""What is known of a video before any frame is decoded, and the errors of files that cannot be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from evalkit.errors import VideoError

FETCH_AGAIN = "fetch or copy the file again"


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """`native_fps` is the container's average frame rate (decord's `get_avg_fps()`), on which the sampling rules are
    defined. `width` and `height` as shown, after `rotation` (degrees, counter-clockwise)."""

    frame_count: int
    native_fps: float
    duration_s: float
    width: int
    height: int
    codec: str
    rotation: int
    pixel_format: str = ""
    interlaced: bool = False


class Decoder(Protocol):
    """One open video.

    `frames` yields uint8 `[height, width, 3]` RGB for ascending, distinct indices. `remarks` says what is doubtful
    about the frames that were read so far.
    """

    name: str
    info: VideoInfo
    remarks: list[str]

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]: ...

    def close(self) -> None: ...


def ignore_progress() -> None:
    """The default of `progress` arguments."""


class BackendFailed(Exception):
    """A decoder failed, but the file may be good: another attempt may succeed."""


def changed_while_read(path: Path | str) -> VideoError:
    return VideoError(f"{path} changed while it was read; start again once it is complete.", kind="damaged")


def require_file(path: Path) -> None:
    """Raise VideoError unless `path` is a regular file that can be read and is not empty."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
            raise VideoError(f"{path} is {what}, not a video file.", kind="not_video")
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError(f"{path} is empty (0 bytes); {FETCH_AGAIN}.", kind="empty")
    except FileNotFoundError:
        raise VideoError(
            f"{path} does not exist; check the folder of the videos or fetch the data.", kind="missing"
        ) from None
    except OSError as error:
        raise VideoError(
            f"{path} cannot be read ({os.strerror(error.errno) if error.errno else error}); check its permissions "
            "and the disk.",
            kind="unreadable",
        ) from None


def unopenable(path: Path) -> VideoError:
    """The error for a file that no demuxer recognises, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp" or head[:4] in (b"\x1a\x45\xdf\xa3", b"RIFF"):
        return VideoError(
            f"{path} begins like a video but its index cannot be read, as after a broken download; {FETCH_AGAIN}.",
            kind="damaged",
        )
    if head.lstrip()[:1] == b"<":
        return VideoError(f"{path} is a web page, not a video; {FETCH_AGAIN}, signed in if need be.", kind="not_video")
    return VideoError(f"{path} is not a video in any known container; {FETCH_AGAIN}.", kind="not_video")
