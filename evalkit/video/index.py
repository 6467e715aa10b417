"""Where each frame of a video lies: found by reading its packets once, without decoding them.

A container's own frame count cannot be trusted (it is absent in Matroska, counts hidden frames before an edit list,
and promises what a broken download no longer holds), so the packets are counted, and a count that falls short of the
promise is an error: sampling only the readable part would silently show the model another video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from evalkit.errors import VideoError

from .info import FETCH_AGAIN, BackendFailed, VideoInfo, require_file, silent, unopenable
from .promises import Promises, promises

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,gif,ogg,h264,hevc,ivf,mpegvideo,m4v,rm,mjpeg,mxf,dv,"
    "wav,mp3,flac,aac"
)
"""Containers that are opened. Playlists are not: a downloaded 'video' must not make the reader open other files."""

COUNTED = ("gif", "apng", ("avi", "mpeg4"))
"""Codecs, or codecs in a container, whose frames are found by decoding from the start alone: they lean on any earlier
frame whatever their key flags say, or come packed two to a packet."""

Progress = Callable[[], None]


@dataclass(frozen=True)
class FrameIndex:
    """Frames in display order, packets in file order.

    `pts[i]` is frame i's timestamp and `packet[i]` the number of its packet; `number` gives a packet's number by its
    timestamp. `key_packet` and `key_pts` are the places where decoding can start. `in_order`: the timestamps identify
    no packets, so frames can only be counted from the start.
    """

    info: VideoInfo
    pts: np.ndarray
    packet: np.ndarray
    number: dict[int, int]
    key_packet: np.ndarray
    key_pts: np.ndarray
    in_order: bool

    @property
    def plain(self) -> bool:
        """Whether every decoder can be expected to show the same frames: time starts at 0, no frame is hidden, and none
        leans on a frame before its group's key frame."""
        if self.in_order or self.pts[0] != 0 or len(self.pts) < len(self.number):
            return False
        in_file_order = np.fromiter(self.number, np.int64, len(self.number))
        earliest_from_here = np.minimum.accumulate(in_file_order[::-1])[::-1]
        return bool((earliest_from_here[self.key_packet] >= self.key_pts).all())

    def key_before(self, i: int) -> int:
        """The last key frame (an index into `key_packet`) from which frame i can be decoded."""
        return max(0, int(np.searchsorted(self.key_pts, self.pts[i], side="right")) - 1)


@contextmanager
def opened(path: Path, **options: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream (never a cover picture). Raises VideoError."""
    try:
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file", "format_whitelist": FORMATS, **options}
        )
    except (av.error.InvalidDataError, av.error.EOFError):
        raise unopenable(path) from None
    except av.error.FFmpegError as error:
        raise BackendFailed(f"{error.strerror} while opening") from error
    with container:
        pictures = [s for s in container.streams.video if not s.disposition & s.disposition.__class__.attached_pic]
        if not pictures:
            raise VideoError(f"{path} has no video stream, only {_kinds(container)}.", kind="no_video_stream")
        if pictures[0].codec_context is None:
            raise BackendFailed("no decoder for its codec")
        yield container, pictures[0]


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted({s.type or "data" for s in container.streams})) or "an empty container"


@dataclass
class _Packets:
    """What reading the packets told. `end_s` is where the last one ends, of any stream."""

    codec: str
    in_order: bool
    promised: Promises
    pts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    end_s: float = 0.0
    errors: list[str] = field(default_factory=list)


def _read_packets(path: Path, progress: Progress, **options: str) -> _Packets:
    with opened(path, **options) as (container, stream):
        codec, name = stream.codec_context.name, container.format.name
        found = _Packets(codec, (name, codec) in COUNTED or codec in COUNTED, promises(path, container, stream))
        matroska = "matroska" in name
        try:
            with _complaints() as log:  # the one place where Matroska's reader tells that it lost its way
                for packet in container.demux() if matroska else container.demux(stream):
                    progress()
                    if packet.size == 0:
                        continue
                    if packet.pts is not None and packet.time_base:
                        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        found.end_s = max(found.end_s, end)
                    if packet.stream_index != stream.index:
                        continue
                    if packet.is_corrupt and any(found.key):  # what goes before the first key frame is not shown anyway
                        found.errors.append("a packet is cut short")
                    found.pts.append(packet.pts)
                    found.key.append(packet.is_keyframe)
                    found.hidden.append(packet.is_discard or _never_shown(stream, packet))
            if matroska:
                found.errors += [message for _, _, message in log]
        except av.error.FFmpegError as error:
            found.errors.append(error.strerror or str(error))
        return found


@contextmanager
def _complaints() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg logs as errors meanwhile: (level, source, message)."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        av.logging.set_level(before)


def _never_shown(stream: VideoStream, packet: av.Packet) -> bool:
    """VP8 keeps frames that serve only as reference in packets of their own; bit 4 of the first byte shows a frame."""
    return stream.codec_context.name in ("vp8", "libvpx") and not bytes(packet)[0] & 0x10


def build_index(path: Path, progress: Progress = silent) -> FrameIndex:
    """Read the packets of `path`. Raises VideoError (missing, unreadable, empty, not_video, no_video_stream, damaged)
    or BackendFailed."""
    require_file(path)
    found = _read_packets(path, progress)
    there = len(found.pts)
    if there < found.promised.packets:  # an edit list may leave packets out for good reason: count them without it
        there = len(_read_packets(path, progress, ignore_editlist="1").pts)
    trouble = _broken_promise(found, there, path.stat().st_size)
    if trouble:
        raise VideoError(f"{path} is damaged: {trouble}; {FETCH_AGAIN}.", kind="damaged")
    return _arrange(path, found, progress)


def _broken_promise(found: _Packets, there: int, size_bytes: int) -> str:
    """What shows that the file is not whole, or ''."""
    promised = found.promised
    if there < promised.packets:
        return f"only {there} of its {promised.packets} frames are there"
    if found.errors:
        return f"its container cannot be followed ({found.errors[0].strip()})"
    if size_bytes < promised.size_bytes:
        return f"its last {promised.size_bytes - size_bytes} bytes are missing"
    if found.end_s < promised.duration_s - max(1.0, 0.02 * promised.duration_s):
        return f"it ends at {found.end_s:.1f} s of {promised.duration_s:.1f} s"
    if not any(found.key):
        return "it holds no frame that decoding can start from"
    return ""


def _arrange(path: Path, found: _Packets, progress: Progress) -> FrameIndex:
    keys = [n for n, key in enumerate(found.key) if key]
    first = keys[0]
    known = [pts for pts in found.pts if pts is not None]
    in_order = found.in_order or len(known) < len(found.pts) or len(set(known)) < len(known)
    if in_order:
        count = _count_frames(path, progress)
        pts = packet = key_pts = key_packet = np.empty(0, np.int64)
        number: dict[int, int] = {}
    else:
        # Frames that precede the first key frame lean on frames that are not in the file; no decoder shows them.
        shown = [n for n in range(first, len(known)) if not found.hidden[n] and known[n] >= known[first]]
        packet = np.array(sorted(shown, key=known.__getitem__), np.int64)
        pts = np.array([known[n] for n in packet], np.int64)
        key_packet = np.array(keys, np.int64)
        key_pts = np.array([known[n] for n in keys], np.int64)
        number = {p: n for n, p in enumerate(known)}
        count = len(packet)
        in_order = bool((np.diff(key_pts) <= 0).any())
    return FrameIndex(_describe(path, count, found.end_s), pts, packet, number, key_packet, key_pts, in_order)


def _count_frames(path: Path, progress: Progress) -> int:
    count = 0
    with opened(path) as (container, stream):
        try:
            for _ in container.decode(stream):
                progress()
                count += 1
        except av.error.FFmpegError:
            raise VideoError(
                f"{path} is damaged: frame {count} cannot be decoded; {FETCH_AGAIN}.", kind="damaged"
            ) from None
    return count


def _describe(path: Path, count: int, end_s: float) -> VideoInfo:
    with opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        width, height, rotation = stream.codec_context.width, stream.codec_context.height, 0
        try:
            shown = next(container.decode(stream), None)
        except av.error.FFmpegError:
            shown = None  # the reader will meet the same frame and say so, if it is wanted
        if shown is not None:
            width, height, rotation = shown.width, shown.height, shown.rotation % 360
        if rotation % 180:
            width, height = height, width
        native_fps = float(rate) if rate else 0.0
        duration_s = count / native_fps if native_fps else end_s
        return VideoInfo(count, native_fps, duration_s, width, height, stream.codec_context.name, rotation)


def probe(path: Path) -> VideoInfo:
    """What a video is, after reading its packets once. Raises VideoError."""
    try:
        return build_index(Path(path)).info
    except BackendFailed as error:
        raise VideoError(f"{path} cannot be read: {error}.", kind="damaged") from error
