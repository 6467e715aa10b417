"""The default decoder: PyAV, with an index, seeks where they are cheaper than reading on, and nothing decoded that no
wanted frame needs. Its frames equal those of plain sequential decoding bit for bit; a frame that cannot be had so is an
error, never its neighbour."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from evalkit.errors import VideoError

from .index import Progress, build_index, opened
from .info import FETCH_AGAIN, silent

READ_ON = 16
"""Packets that are cheaper to read through than to seek across (measured by benchmarks/video_decoding.py)."""

SKIPS_EXACTLY = ("h264", "hevc")
"""Codecs whose decoders can drop frames that nothing refers to without touching the others. VP9 gains nothing by it,
AV1 loses frames."""

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
            came = yield from self._run(indices[done:], attempt)
            done += came
            attempt = 0 if came else attempt + 1
            if attempt > 3:
                raise self._undecodable(indices[done])

    def _run(self, indices: list[int], attempt: int) -> Generator[np.ndarray, None, int]:
        """Decode from a key frame on; returns how many of `indices` came before it was better to start anew. Attempt 0
        is the fast way; 1 decodes everything in one thread, 2 from a key frame earlier, 3 from the start."""
        index, careful = self.index, attempt > 0
        wanted = {int(index.packet[i]) for i in indices}
        key = index.key_before(indices[0])
        stream = self._video(careful)
        context = stream.codec_context
        skips = context.name in SKIPS_EXACTLY and not careful
        done, broken = 0, NEVER
        for number, packet in self._packets(stream, (key, key, max(0, key - 1), 0)[attempt]):
            self.progress()
            if skips:
                context.skip_frame = "DEFAULT" if packet is None or number in wanted else "NONREF"
            try:
                pictures = [] if packet is not None and packet.is_corrupt else context.decode(packet)
                damaged = packet is not None and packet.is_corrupt
            except av.error.InvalidDataError:
                pictures, damaged = [], True
            if damaged and not careful:
                return done
            if damaged:
                broken = min(broken, number)
            for picture in pictures:
                want = indices[done]
                if picture.pts is None or picture.pts < index.pts[want] or index.packet[want] >= broken:
                    continue
                if picture.pts > index.pts[want] or picture.is_corrupt:
                    return done
                yield self._to_rgb(picture)
                done += 1
                if done == len(indices):
                    return done
            if done or broken < NEVER:
                want = indices[done]
                start = index.key_packet[index.key_before(want)]
                if start > min(number + self.read_on, broken):
                    return done
                if index.packet[want] >= broken:  # between a damaged packet and the next key frame
                    raise self._undecodable(want)
        return done

    def _video(self, careful: bool) -> VideoStream:
        if self._stream is None or self._careful != careful:
            self._open.close()
            _, self._stream = self._open.enter_context(opened(self.path))
            self._careful = careful
            context = self._stream.codec_context
            context.thread_count = 1 if careful else self.threads
            context.thread_type = "AUTO"
            context.options = {"err_detect": "explode"}
        return self._stream

    def _packets(self, stream: VideoStream, key: int) -> Iterator[tuple[int, av.Packet | None]]:
        """Numbered packets from a key frame on, then None to flush the decoder."""
        index = self.index
        container = cast(InputContainer, stream.container)
        start = number = int(index.key_packet[key])
        while True:
            container.seek(int(index.key_pts[key]) if key else min(index.number), stream=stream)
            landed = False
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                number = NEVER if packet.pts is None else index.number.get(packet.pts, NEVER)
                if not landed and number > start and key:  # behind the place that was asked for: ask for an earlier one
                    key -= 1
                    break
                landed = True
                if number >= start:
                    yield number, packet
            else:
                yield number + 1, None
                return

    def _count_to(self, indices: list[int]) -> Iterator[np.ndarray]:
        """For files whose timestamps identify no packets: decode from the start and count."""
        done = 0
        self.close()
        stream = self._video(careful=True)
        try:
            for i, picture in enumerate(cast(InputContainer, stream.container).decode(stream)):
                self.progress()
                if i == indices[done]:
                    yield self._to_rgb(picture)
                    done += 1
                if done == len(indices):
                    return
        except av.error.InvalidDataError:
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
