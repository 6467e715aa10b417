"""The default decoder: PyAV, with an index, seeks where they are cheaper than reading on, and nothing decoded that no
wanted frame needs. Its frames equal those of plain sequential decoding bit for bit; a frame that cannot be had so is an
error, never its neighbour."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from evalkit.errors import VideoError

from .index import Progress, build_index, opened
from .info import FETCH_AGAIN, silent

READ_ON = 2
"""Packets that are read through rather than sought across. From a local disk a seek costs less than decoding a single
packet (benchmarks/video_decoding.py); a few are granted to slower ones."""

SKIPS_EXACTLY = ("h264", "hevc")
"""Codecs whose decoders can drop frames that nothing refers to without touching the others. VP9 gains nothing by it,
AV1 loses frames."""

DOUBT = 3
"""A frame is believed once so many packets behind its own have been decoded without complaint: damage comes in
stretches, and the first packet it touches often decodes, to another picture. Codecs have no checksums: a few flipped
bytes by themselves may pass unnoticed."""

NEVER = 1 << 62


class PyAVDecoder:
    """One open video. `threads` are FFmpeg's own; `progress` is called at least once a packet."""

    name = f"pyav {av.__version__}"

    def __init__(self, path: Path, threads: int = 2, progress: Progress = silent, read_on: int = READ_ON) -> None:
        self.path = path
        self.threads = threads
        self.progress = progress
        self.read_on = read_on
        self.index = build_index(path, progress)
        self.info = self.index.info
        self._reformatter = VideoReformatter()
        self._open = ExitStack()
        self._stream: VideoStream | None = None
        self._careful = False

    def close(self) -> None:
        self._open.close()
        self._stream = None

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index; ascending and distinct. Raises VideoError (damaged)."""
        if self.index.in_order:
            yield from self._count_to(indices)
            return
        done = attempt = 0
        while done < len(indices):
            rest = indices[done:]
            came = yield from (self._carefully(rest, attempt) if attempt else self._quickly(rest))
            done += came
            attempt = 0 if came else attempt + 1
            if attempt > 3:
                raise self._undecodable(indices[done])

    def _quickly(self, indices: list[int]) -> Generator[np.ndarray, None, int]:
        """Decode from the key frame before the first index on, in several threads; returns how many came before it was
        better to seek again, or before the decoder doubted anything at all."""
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
                if came == len(indices) or picture.pts is None or picture.pts < index.pts[indices[came]]:
                    continue
                if picture.pts > index.pts[indices[came]] or picture.is_corrupt:
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

    def _carefully(self, indices: list[int], attempt: int) -> Generator[np.ndarray, None, int]:
        """Decode the group of pictures around the first index whole and in one thread, from its key frame (attempt 1),
        the one before (2) or the start (3). It is decoded twice: first to learn from where on it is damaged, as
        decoders show some of the frames that lean on a damaged one before they flag it. Raises VideoError (damaged)."""
        index = self.index
        key = index.key_before(indices[0])
        group = [i for i in indices if index.key_before(i) == key]
        start = (key, max(0, key - 1), 0)[attempt - 1]
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
                whole = not picture.is_corrupt
                yield self.index.number.get(picture.pts, number) if picture.pts is not None else number, picture, whole
            if past:
                return

    def _start(self, key: int, careful: bool) -> tuple[VideoCodecContext, Iterator[tuple[int, av.Packet | None]]]:
        """A decoder, and numbered packets for it from a key frame on, closed by None to flush it."""
        index = self.index
        fresh = key == 0 or self._stream is None or self._careful != careful
        if fresh:
            self._open_decoder(careful)
        assert self._stream is not None
        stream = self._stream
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

        return stream.codec_context, packets()

    def _open_decoder(self, careful: bool) -> None:
        self._open.close()
        _, self._stream = self._open.enter_context(opened(self.path))
        self._careful = careful
        context = self._stream.codec_context
        context.thread_count = 1 if careful else self.threads
        context.thread_type = "AUTO"
        if not careful:
            context.options = {"err_detect": "explode"}

    def _count_to(self, indices: list[int]) -> Iterator[np.ndarray]:
        """For files whose timestamps identify no packets: decode from the start and count."""
        done, whole = 0, True
        self._open_decoder(careful=True)
        stream = self._stream
        assert stream is not None
        try:
            for i, picture in enumerate(cast(InputContainer, stream.container).decode(stream)):
                self.progress()
                whole = not picture.is_corrupt and (whole or picture.key_frame)
                if i == indices[done]:
                    if not whole:
                        break
                    yield self._to_rgb(picture)
                    done += 1
                if done == len(indices):
                    return
        except av.error.FFmpegError:
            pass
        raise self._undecodable(indices[done])

    def _to_rgb(self, picture: av.VideoFrame) -> np.ndarray:
        pixels = self._reformatter.reformat(picture, format="rgb24").to_ndarray()
        return np.rot90(pixels, self.info.rotation // 90) if self.info.rotation else pixels

    def _undecodable(self, i: int) -> VideoError:
        return VideoError(
            f"{self.path} is damaged: frame {i} of {self.info.frame_count} cannot be decoded; {FETCH_AGAIN}.",
            kind="damaged",
        )
