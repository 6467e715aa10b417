"""Where each frame of a video lies: found by reading its packets once, without decoding them.

A container's own frame count cannot be trusted: it is absent in Matroska, counts hidden frames before an edit list, and
includes what a broken download does not hold. So the packets are counted, and fewer than declared are an error:
sampling the readable part only would show the model another video. On the way, every sign of damage that container and
packets offer is collected.
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

from .declared import DeclaredContent, checksums, declared_content, impossible_counts
from .info import FETCH_AGAIN, BackendFailed, VideoInfo, ignore_progress, require_file, unopenable
from .payload import PayloadCheck

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,gif,ogg,h264,hevc,ivf,mpegvideo,m4v,rm,mjpeg,mxf,dv,"
    "wav,mp3,flac,aac"
)
"""Containers that are opened. Playlists are not: a downloaded 'video' must not make the reader open other files."""

COUNTED = ("gif", "apng", ("avi", "mpeg4"), ("avi", "h264"), ("avi", "hevc"))
"""Codecs, or codecs in a container, whose frames can only be counted by decoding from the start: they depend on any
earlier frame whatever their key flags say, come two to a packet, or (AVI has no presentation times) are reordered."""

Progress = Callable[[], None]


@dataclass(frozen=True)
class FrameIndex:
    """Frames in display order, packets in file order.

    `pts[i]` is frame i's timestamp and `packet[i]` the number of its packet; `number` gives a packet's number by its
    timestamp. `key_packet` and `key_pts` are the places where decoding can start. `in_order`: the timestamps identify
    no packets, so frames can only be counted from the start. `clean_keys`: every key packet is one that any decoder can
    start from. `damaged`: numbers of the packets whose bytes are certainly wrong. `remarks`: what is doubtful.
    """

    info: VideoInfo
    pts: np.ndarray
    packet: np.ndarray
    number: dict[int, int]
    key_packet: np.ndarray
    key_pts: np.ndarray
    in_order: bool
    clean_keys: bool = True
    damaged: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether every decoder can be expected to show the same frames: time starts at 0, no frame is hidden, none
        depends on a frame before its group's key frame, and pictures are whole (not interlaced) with 8 bits."""
        info = self.info
        if info.interlaced or info.pixel_format not in ("yuv420p", "yuvj420p") or not self.clean_keys:
            return False
        if self.in_order or self.pts[0] != 0 or len(self.pts) < len(self.number):
            return False
        in_file_order = np.fromiter(self.number, np.int64, len(self.number))
        earliest_from_here = np.minimum.accumulate(in_file_order[::-1])[::-1]
        return bool((earliest_from_here[self.key_packet] >= self.key_pts).all())

    def touched(self, i: int, margin: int) -> bool:
        """Whether a damaged packet lies between the key frame of frame i and `margin` packets behind its own."""
        start = self.key_packet[self.key_before(i)]
        return any(start <= number <= self.packet[i] + margin for number in self.damaged)

    def key_before(self, i: int) -> int:
        """The last key frame (an index into `key_packet`) from which frame i can be decoded."""
        return max(0, int(np.searchsorted(self.key_pts, self.pts[i], side="right")) - 1)


@contextmanager
def opened(path: Path, **options: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream (never a cover picture). Raises VideoError."""
    impossible = impossible_counts(path)
    if impossible:
        raise VideoError(f"{path} is damaged: {impossible}; {FETCH_AGAIN}.", kind="damaged")
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
    """What reading the packets showed. `end_s` is where the last one ends, of any stream; `errors` are certain signs of
    damage, `doubts` uncertain ones."""

    codec: str
    in_order: bool
    declared: DeclaredContent
    pts: list[int | None] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    end_s: float = 0.0
    checked: bool = False  # by checksums of the container
    clean_keys: bool = True
    damaged: list[tuple[int, str]] = field(default_factory=list)  # number of a packet, and what is wrong with it
    errors: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def _read_packets(path: Path, progress: Progress, **options: str) -> _Packets:
    with opened(path, **options) as (container, stream):
        codec, name = stream.codec_context.name, container.format.name
        declared = declared_content(path, container, stream)
        found = _Packets(codec, (name, codec) in COUNTED or codec in COUNTED, declared)
        check = PayloadCheck(codec, stream.codec_context.extradata)
        matroska = "matroska" in name
        try:
            with logged_errors() as log:
                for packet in container.demux() if matroska else container.demux(stream):
                    progress()
                    if packet.size == 0:
                        continue
                    if packet.pts is not None and packet.time_base:
                        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        found.end_s = max(found.end_s, end)
                    if packet.stream_index == stream.index:
                        _add_packet(found, packet, check)
            (found.errors if matroska else found.doubts).extend(_words(message) for _, _, message in log)
        except av.error.FFmpegError as error:
            found.errors.append(error.strerror or str(error))
        if matroska:
            found.checked, failed = checksums(path)
            found.errors += [failed] if failed else []
        if not any((declared.packets, declared.duration_s, declared.size_bytes)) and name != "gif":
            found.doubts.append(f"{name} does not say how long it is, so a missing end is not noticed")
        return found


def _add_packet(found: _Packets, packet: av.Packet, check: PayloadCheck) -> None:
    data = bytes(packet)
    if packet.is_corrupt and any(found.key):  # what precedes the first key frame is not shown
        found.errors.append("a packet is cut short")
    if damage := check.damage(data):
        found.damaged.append((len(found.pts), damage))
    if doubt := check.doubt(data):
        found.doubts.append(doubt)
    if packet.is_keyframe and not check.entry_point(data):
        found.clean_keys = False
    found.pts.append(packet.pts)
    found.key.append(packet.is_keyframe)
    found.hidden.append(packet.is_discard or _never_shown(found.codec, data))


@contextmanager
def logged_errors() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg logs as errors meanwhile: (level, source, message). It is the only place where the Matroska demuxer
    reports that it had to skip data. Messages equal to the last one are kept: they may come from another file."""
    level, skip_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip_repeated)


def _words(message: str) -> str:
    return " ".join(message.split()).rstrip(".")


def _never_shown(codec: str, data: bytes) -> bool:
    """VP8 keeps frames that are only references in packets of their own; bit 4 of the first byte shows a frame."""
    return codec in ("vp8", "libvpx") and not data[0] & 0x10


def build_index(path: Path, progress: Progress = ignore_progress) -> FrameIndex:
    """Read the packets of `path`. Raises VideoError (missing, unreadable, empty, not_video, no_video_stream, damaged)
    or BackendFailed."""
    require_file(path)
    found = _read_packets(path, progress)
    there = len(found.pts)
    if there < found.declared.packets:  # an edit list may leave packets out for good reason: count them without it
        there = len(_read_packets(path, progress, ignore_editlist="1").pts)
    trouble = _missing_content(found, there, path.stat().st_size)
    if trouble:
        raise VideoError(f"{path} is damaged: {trouble}; {FETCH_AGAIN}.", kind="damaged")
    return _arrange(path, found, progress)


def _missing_content(found: _Packets, there: int, size_bytes: int) -> str:
    """What shows that the file is not complete or not intact, or ''."""
    declared = found.declared
    if there < declared.packets:
        return f"only {there} of its {declared.packets} frames are there"
    if found.errors:
        return f"its container cannot be followed ({found.errors[0].strip()})"
    if size_bytes < declared.size_bytes:
        return f"its last {declared.size_bytes - size_bytes} bytes are missing"
    if found.end_s < declared.duration_s - max(1.0, 0.02 * declared.duration_s):
        return f"it ends at {found.end_s:.1f} s of {declared.duration_s:.1f} s"
    if found.in_order and found.damaged:
        return found.damaged[0][1]
    if not any(found.key) or (0 in dict(found.damaged) and not found.key[0]):
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
        # Frames before the first key frame depend on frames that are not in the file; no decoder returns them.
        shown = [n for n in range(first, len(known)) if not found.hidden[n] and known[n] >= known[first]]
        packet = np.array(sorted(shown, key=known.__getitem__), np.int64)
        pts = np.array([known[n] for n in packet], np.int64)
        key_packet = np.array(keys, np.int64)
        key_pts = np.array([known[n] for n in keys], np.int64)
        number = {p: n for n, p in enumerate(known)}
        count = len(packet)
        in_order = bool((np.diff(key_pts) <= 0).any())
    info = _describe(path, count, found.end_s)
    damaged = tuple(number for number, _ in found.damaged)
    doubts = () if found.checked else dict.fromkeys(found.doubts)
    remarks = tuple(f"the video cannot be checked: {doubt}" for doubt in doubts)[:3]
    return FrameIndex(info, pts, packet, number, key_packet, key_pts, in_order, found.clean_keys, damaged, remarks)


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
        width, height, rotation, interlaced = stream.codec_context.width, stream.codec_context.height, 0, False
        try:
            shown = next(container.decode(stream), None)
        except av.error.FFmpegError:
            shown = None  # an error only if this frame is read
        if shown is not None:
            width, height, rotation = shown.width, shown.height, shown.rotation % 360
            interlaced = shown.interlaced_frame
        if rotation % 180:
            width, height = height, width
        native_fps = float(rate) if rate else 0.0
        duration_s = count / native_fps if native_fps else end_s
        whole_s = container.duration / av.time_base if container.duration and "mov" in container.format.name else 0.0
        if whole_s and duration_s > 2 * whole_s + 1.0:  # a wrong time scale, by which an edit list hides most frames
            raise VideoError(
                f"{path} is damaged: its video lasts {duration_s:.0f} s, but the whole file {whole_s:.0f} s; "
                f"{FETCH_AGAIN}.",
                kind="damaged",
            )
        codec, pixel_format = stream.codec_context.name, stream.codec_context.pix_fmt or ""
        return VideoInfo(count, native_fps, duration_s, width, height, codec, rotation, pixel_format, interlaced)


def probe(path: Path) -> VideoInfo:
    """What a video is, after reading its packets once. Raises VideoError."""
    try:
        return build_index(Path(path)).info
    except BackendFailed as error:
        raise VideoError(f"{path} cannot be read: {error}.", kind="damaged") from error
