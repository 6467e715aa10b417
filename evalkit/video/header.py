"""How long videos are by their headers: a few milliseconds a file, where `probe` reads every packet.

A header can be wrong about a file (see index.py), so its frame count is called exact only where the container lists
every frame, as MP4 does; frames that an edit list hides are subtracted. For estimates: nothing is sampled by it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av

from evalkit.errors import VideoError

from .index import build_index, opened
from .info import BackendFailed, VideoInfo, require_file
from .pictures import SUFFIXES

READERS = 8
"""Threads that open files: on a network file system, opening is waiting."""

REORDERED = 32
"""So many shown frames in succession, in the order of the file, end what an edit list hides: codecs reorder fewer."""


@dataclass(frozen=True)
class Header:
    """`exact`: `info.frame_count` is what decoding will find; otherwise it is about that."""

    info: VideoInfo
    exact: bool


class _TimeIsUp(Exception):
    """The time allowed for reading has passed."""


def read_header(path: Path, fps: float | None = None) -> Header:
    """Of a video, or of a folder of pictures, `fps` a second. Raises VideoError."""
    if path.is_dir():
        return _pictures(path, fps)
    require_file(path)
    try:
        with opened(path) as (container, stream):
            rate = stream.average_rate or stream.guessed_rate
            seconds = container.duration / av.time_base if container.duration else 0.0
            listed: Sequence[Any] = getattr(stream, "index_entries", ())  # PyAV 16 and later
            count, exact = stream.frames, 0 < len(listed) == stream.frames
            if exact:
                if listed[-1].pos + listed[-1].size > path.stat().st_size:
                    raise VideoError(f"{path} is damaged: its header declares more than is there.", kind="damaged")
                count -= _hidden(listed)
            if count > path.stat().st_size:
                raise VideoError(f"{path} is damaged: its header declares {count} frames.", kind="damaged")
            native_fps, codec = float(rate or 0), stream.codec_context.name
            if not native_fps or not (count or seconds):
                raise VideoError(f"{path} does not say how long it is.", kind="unknown")
            count = count or max(1, round(seconds * native_fps))
            info = VideoInfo(count, native_fps, count / native_fps, stream.width, stream.height, codec, 0)
            return Header(info, exact)
    except BackendFailed as error:
        raise VideoError(f"{path} cannot be read: {error}.", kind="damaged") from error


def _hidden(listed: Sequence[Any]) -> int:
    """Frames before and behind what an edit list shows."""
    hidden, first = 0, _end_of_hidden(listed, range(len(listed)))
    last = _end_of_hidden(listed, range(len(listed) - 1, first, -1))
    for i in (*range(first + 1), *range(max(last, first + 1), len(listed))):
        hidden += listed[i].is_discard
    return hidden


def _end_of_hidden(listed: Sequence[Any], places: range) -> int:
    shown, i = 0, places.start
    for i in places:
        shown = 0 if listed[i].is_discard else shown + 1
        if shown == REORDERED:
            break
    return i


def _pictures(path: Path, fps: float | None) -> Header:
    count = sum(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    if not count or not fps:
        raise VideoError(f"{path} is a folder without pictures, or nothing says how many make a second.", kind="empty")
    return Header(VideoInfo(count, fps, count / fps, 0, 0, "", 0), True)


@lru_cache(maxsize=8)
def read_headers(wanted: tuple[tuple[Path, float | None], ...], seconds: float) -> dict[Path, Header | VideoError]:
    """Of as many (path, fps) as can be read in `seconds`. The remaining time is spent on counting the packets of files
    whose header gives no exact count. Cached, so that the cells of a sweep read once."""
    deadline = time.monotonic() + seconds
    todo = iter(list(dict.fromkeys(wanted)))
    found: dict[Path, Header | VideoError] = {}

    def read() -> None:
        for path, fps in todo:
            if time.monotonic() > deadline:
                return
            found[path] = _header_or_error(path, fps)

    threads = [threading.Thread(target=read, name="video headers", daemon=True) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:  # a thread that waits for a file system is not waited for
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found) | _counted(dict(found), deadline)


def _header_or_error(path: Path, fps: float | None) -> Header | VideoError:
    try:
        return read_header(path, fps)
    except VideoError as error:
        return error


def _counted(found: dict[Path, Header | VideoError], deadline: float) -> dict[Path, Header | VideoError]:
    """Those that are not exact, by their packets, as far as time allows."""

    def progress() -> None:
        if time.monotonic() > deadline:
            raise _TimeIsUp

    counted: dict[Path, Header | VideoError] = {}
    inexact = (p for p, h in found.items() if (h.kind == "unknown" if isinstance(h, VideoError) else not h.exact))
    try:
        for path in inexact:
            progress()
            try:
                counted[path] = Header(build_index(path, progress).info, True)
            except VideoError as error:
                counted[path] = error
            except BackendFailed as error:
                counted[path] = VideoError(f"{path} cannot be read: {error}.", kind="damaged")
    except _TimeIsUp:
        pass
    return counted
