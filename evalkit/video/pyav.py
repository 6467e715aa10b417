"""The default decoder: PyAV with a frame index. It seeks where that is cheaper than reading on, and decodes only what
the wanted frames need. Its frames equal those of plain sequential decoding bit for bit; a frame that cannot be decoded
is an error and never replaced by its neighbour."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from evalkit.errors import VideoError

from .index import Progress, build_index, logged_errors, opened
from .info import FETCH_AGAIN, ignore_progress

READ_ON = 2
"""Up to this many packets are read rather than skipped by a seek. From a local disk a seek costs less than decoding one
packet (benchmarks/video_decoding.py); other disks are slower."""

SKIPS_EXACTLY = ("h264", "hevc")
"""Codecs whose decoders can drop frames that nothing refers to without touching the others. VP9 gains nothing by it,
AV1 loses frames."""

DOUBT = 3
"""A frame is returned once this many packets after its own were decoded without complaint: damage often covers several
packets, of which the first may decode, to another picture. Codecs have no checksums: a few changed bytes can go
unnoticed (benchmarks/video_fuzz.py says how often)."""

STRICT_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that give the same frames as FFmpeg's own and notice more damage: benchmarks/video_fuzz.py."""

NEVER = 1 << 62


class PyAVDecoder:
    """One open video. `threads` are FFmpeg's own; `progress` is called at least once a packet."""

    name = f"pyav {av.__version__}"

    def __init__(
        self, path: Path, threads: int = 2, progress: Progress = ignore_progress, read_on: int = READ_ON
    ) -> None:
        self.path = path
        self.threads = threads
        self.progress = progress
        self.read_on = read_on
        self.index = build_index(path, progress)
        self.info = self.index.info
        self._reformatter = VideoReformatter()
        self._open = ExitStack()
        self._stream: VideoStream | None = None
        self._context: VideoCodecContext | None = None
        self._careful = False
        self.remarks = list(self.index.remarks)

    def close(self) -> None:
        self._open.close()
        self._stream = None

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index; ascending and distinct. Raises VideoError (damaged)."""
        if self.index.in_order:
            yield from self._count_to(indices)
            return
        first_damaged = next((n for n, i in enumerate(indices) if self.index.touched(i, DOUBT)), len(indices))
        done = failed = 0
        while done < first_damaged:
            rest = indices[done:first_damaged]
            came = yield from (self._carefully(rest, failed) if failed else self._quickly(rest))
            done += came
            failed = 0 if came else failed + 1
            if failed > 3:
                break
        if done < len(indices):
            raise self._undecodable(indices[done])

    def _quickly(self, indices: list[int]) -> Generator[np.ndarray, None, int]:
        """Decode from the key frame before the first index on, in several threads. Returns how many frames it yielded
        before a seek became cheaper, or before the decoder reported anything."""
        index = self.index
        wanted = {int(index.packet[i]) + more for i in indices for more in (0, 1)}
        key = index.key_before(indices[0])
        context, packets = self._start(key, careful=False)
        skips = context.name in SKIPS_EXACTLY
        entered, came, given = False, 0, 0
        waiting: deque[av.VideoFrame] = deque()
        for number, packet in packets:
            self.progress()
            if skips:
                context.skip_frame = "DEFAULT" if packet is None or number in wanted else "NONREF"
            try:
                pictures = context.decode(packet)
            except av.error.FFmpegError:
                return given
            for picture in pictures:
                if not entered and not self._entered(key, picture):
                    return given
                entered = True
                if picture.is_corrupt and not self._precedes(key, picture):
                    return given  # what follows may depend on it, without being marked itself
                if came == len(indices) or picture.pts is None or picture.pts < index.pts[indices[came]]:
                    continue
                if picture.pts > index.pts[indices[came]]:
                    return given
                waiting.append(picture)
                came += 1
            while waiting and (packet is None or number >= index.packet[indices[given]] + DOUBT + self.threads - 1):
                yield self._to_rgb(waiting.popleft())
                given += 1
            if given == len(indices):
                return given
            if given == came > 0 and index.key_packet[index.key_before(indices[given])] > number + self.read_on:
                return given
        return given

    def _carefully(self, indices: list[int], failed: int) -> Generator[np.ndarray, None, int]:
        """Decode the group of pictures around the first index completely and in one thread, from its key frame (after 1
        failure), the one before (2) or the start (3). It is decoded twice: first to find where it is damaged, because
        decoders return some frames that depend on a damaged one before they report it. Raises VideoError (damaged)."""
        index = self.index
        key = index.key_before(indices[0])
        group = [i for i in indices if index.key_before(i) == key]
        start = (key, max(0, key - 1), 0)[failed - 1]
        last = max(int(index.packet[i]) for i in group) + DOUBT
        damaged = min((number for number, _, whole in self._decoded(start, last) if not whole), default=NEVER)
        entered, done = False, 0
        for _, picture, _ in self._decoded(start, last):
            if picture is None or picture.pts is None:
                continue
            if not entered and not self._entered(start, picture):
                return done
            entered = True
            if picture.pts < index.pts[group[done]]:
                continue
            if picture.pts > index.pts[group[done]]:
                return done
            if index.packet[group[done]] >= damaged - DOUBT:
                raise self._undecodable(group[done])
            yield self._to_rgb(picture)
            done += 1
            if done == len(group):
                return done
        if index.packet[group[done]] >= damaged - DOUBT:
            raise self._undecodable(group[done])
        return done

    def _entered(self, key: int, first: av.VideoFrame) -> bool:
        """Whether decoding from this key frame gives what decoding from the start gives: if the key frame itself comes
        first, and as an intra picture. Streams refreshed piece by piece mark key frames that are neither; then none but
        the first is used from here on."""
        if key == 0 or (first.pts == self.index.key_pts[key] and first.pict_type in (PictureType.I, PictureType.NONE)):
            return True
        self.index = replace(self.index, key_packet=self.index.key_packet[:1], key_pts=self.index.key_pts[:1])
        return False

    def _precedes(self, key: int, picture: av.VideoFrame) -> bool:
        """Whether a picture is shown before its key frame, and so depends on frames that were not decoded."""
        return picture.pts is not None and picture.pts < self.index.key_pts[key]

    def _decoded(self, key: int, last: int) -> Iterator[tuple[int, av.VideoFrame | None, bool]]:
        """Packet number, picture and whether it is whole, for each packet from a key frame to number `last`."""
        context, packets = self._start(key, careful=True)
        for number, packet in packets:
            self.progress()
            past = packet is None or number > last
            try:
                pictures = context.decode(None if past else packet)
            except av.error.FFmpegError:
                yield number, None, False
                pictures = []
            if packet is not None and packet.is_corrupt and not past:
                yield number, None, False
            for picture in pictures:
                whole = not picture.is_corrupt or self._precedes(key, picture)
                yield self.index.number.get(picture.pts, number) if picture.pts is not None else number, picture, whole
            if past:
                return

    def _start(self, key: int, careful: bool) -> tuple[VideoCodecContext, Iterator[tuple[int, av.Packet | None]]]:
        """A decoder, and numbered packets for it from a key frame on, closed by None to flush it."""
        index = self.index
        fresh = key == 0 or self._stream is None or self._careful != careful
        if fresh:
            self._open_decoder(careful)
        assert self._stream is not None and self._context is not None
        stream, context = self._stream, self._context
        if not fresh and context is not stream.codec_context:
            context.flush_buffers()  # seeking flushes the stream's own decoder
        container = cast(InputContainer, stream.container)

        def packets() -> Iterator[tuple[int, av.Packet | None]]:
            start = number = int(index.key_packet[key])
            for sought in range(key, -1, -1):  # some containers land behind the place that was asked for
                if sought:
                    container.seek(int(index.key_pts[sought]), stream=stream)
                elif not fresh:
                    container.seek(min(index.number), stream=stream)
                landed = False
                for packet in container.demux(stream):
                    if packet.size == 0 or packet.pts is None:
                        continue
                    number = index.number.get(packet.pts, NEVER)
                    if not landed and number > start and sought:
                        break
                    landed = True
                    if number == start or (number > start and packet.pts > index.key_pts[key]):
                        yield number, packet
                else:
                    yield number + 1, None
                    return

        return context, packets()

    def _open_decoder(self, careful: bool) -> None:
        self._open.close()
        _, self._stream = self._open.enter_context(opened(self.path))
        self._careful = careful
        self._context = context = _strictest_decoder(self._stream)
        context.thread_count = 1 if careful else self.threads
        context.thread_type = "AUTO"
        if not careful:
            context.options = {"err_detect": "explode"}

    def _count_to(self, indices: list[int]) -> Iterator[np.ndarray]:
        """For files whose timestamps identify no packets: decode from the start and count. A frame is returned once
        DOUBT frames after it were decoded without complaint. Raises VideoError (damaged)."""
        wanted = deque(indices)
        waiting: deque[tuple[int, av.VideoFrame]] = deque()
        intact = True
        for i, picture, complaint in self._counted():
            intact = not complaint and (intact or picture is None or bool(picture.key_frame))
            if not intact and (waiting or picture is None):
                break
            if wanted and i == wanted[0] and picture is not None:
                if not intact:
                    break
                waiting.append((wanted.popleft(), picture))
            while waiting and (i >= waiting[0][0] + DOUBT or picture is None):
                yield self._to_rgb(waiting.popleft()[1])
            if not wanted and not waiting:
                return
        raise self._undecodable((waiting[0][0] if waiting else wanted[0]) if waiting or wanted else indices[-1])

    def _counted(self) -> Iterator[tuple[int, av.VideoFrame | None, bool]]:
        """Number, picture and whether the decoder complained, for each picture from the start; the last has none."""
        self._open_decoder(careful=True)
        assert self._stream is not None
        pictures = cast(InputContainer, self._stream.container).decode(self._stream)
        for i in count():
            self.progress()
            try:
                with logged_errors() as log:
                    picture = next(pictures, None)
            except av.error.FFmpegError:
                yield i, None, True
                return
            # Before the first picture, decoders also complain of frames that precede the first key frame.
            yield i, picture, (bool(log) and i > 0) or (picture is not None and picture.is_corrupt)
            if picture is None:
                return

    def _to_rgb(self, picture: av.VideoFrame) -> np.ndarray:
        pixels = self._reformatter.reformat(picture, format="rgb24").to_ndarray()
        return np.rot90(pixels, self.info.rotation // 90) if self.info.rotation else pixels

    def _undecodable(self, i: int) -> VideoError:
        return VideoError(
            f"{self.path} is damaged: frame {i} of {self.info.frame_count} cannot be decoded; {FETCH_AGAIN}.",
            kind="damaged",
        )


def _strictest_decoder(stream: VideoStream) -> VideoCodecContext:
    """The stream's decoder, or one that notices more damage where this build of FFmpeg has it."""
    own = stream.codec_context
    name = STRICT_DECODERS.get(own.name)
    if name not in av.codec.codecs_available or own.pix_fmt != "yuv420p":
        return own
    context = cast(VideoCodecContext, CodecContext.create(str(name), "r"))
    if own.extradata:
        context.extradata = own.extradata
    return context
