"""What a container declares about its content, to be compared with what is there.

MP4 lists its frames; AVI lists its chunks at its end and a count at its start; Matroska says where it ends, how long it
lasts, and often has a CRC-32 for each cluster. Fragmented MP4 and transport streams declare nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

AVI_ENTRY = np.dtype([("chunk", "S4"), ("flags", "<u4"), ("offset", "<u4"), ("size", "<u4")])

EBML, SEGMENT, CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
CRC32 = b"\xbf\x84"  # with the size of what follows, 4 bytes
BLOCK_BYTES = 1 << 20

MP4_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")


@dataclass(frozen=True)
class DeclaredContent:
    """0 where the container declares nothing. `packets`: of the video stream; `size_bytes`: of the file."""

    packets: int
    duration_s: float
    size_bytes: int


def declared_content(path: Path, container: InputContainer, stream: VideoStream) -> DeclaredContent:
    """Of an open file, for its video stream."""
    name = container.format.name
    packets = stream.frames
    if name == "avi":
        packets = _avi_chunks(path, stream.index) or packets
    if "matroska" in name:
        duration_s = container.duration / av.time_base if container.duration else 0.0
        with path.open("rb") as file:
            return DeclaredContent(packets, duration_s, _segment(file)[1])
    return DeclaredContent(packets, 0.0, 0)


def _avi_chunks(path: Path, stream: int) -> int:
    """The number of chunks that hold a picture, by the index at the end. The header counts also the empty chunks by
    which AVI repeats a picture, and those are no packets."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        place = 12
        while place + 8 <= end:
            file.seek(place)
            chunk, size = file.read(4), int.from_bytes(file.read(4), "little")
            if chunk == b"idx1":
                entries = file.read(size)
                listed = np.frombuffer(entries[: len(entries) // AVI_ENTRY.itemsize * AVI_ENTRY.itemsize], AVI_ENTRY)
                ours = np.isin(listed["chunk"], [b"%02ddc" % stream, b"%02ddb" % stream])
                return int((ours & (listed["size"] > 0)).sum())
            place += 8 + size + size % 2
    return 0


def impossible_counts(path: Path) -> str:
    """Where an MP4 file declares more frames than it has bytes; '' otherwise. FFmpeg makes an entry in memory for each
    declared frame, so this is checked before it opens the file."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof"):
            return ""
        for kind, start in _mp4_boxes(file, 0, size_bytes):
            if kind == b"stsz":
                file.seek(start + 4)
                frame_bytes, count = _big_endian(file, 4), _big_endian(file, 4)
                needed = count * (frame_bytes or 1)
            elif kind == b"trun":
                file.seek(start + 4)
                count = needed = _big_endian(file, 4)
            else:
                continue
            if needed > size_bytes:
                return f"its header declares {count} frames, more than its {size_bytes} bytes can hold"
    return ""


def _mp4_boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(kind, start of the content) of each box, of the boxes in MP4_PARENTS also of those within."""
    while start + 8 <= end:
        file.seek(start)
        size, kind, header = _big_endian(file, 4), file.read(4), 8
        if size == 1:
            size, header = _big_endian(file, 8), 16
        stop = start + size if size else end
        if stop < start + header:
            return
        yield kind, start + header
        if kind in MP4_PARENTS:
            yield from _mp4_boxes(file, start + header, min(stop, end))
        start = stop


def _big_endian(file: IO[bytes], size: int) -> int:
    return int.from_bytes(file.read(size), "big")


def checksums(path: Path) -> tuple[bool, str]:
    """Whether every cluster of a Matroska file has a CRC-32, and where an element does not fit its own ('': nowhere).
    FFmpeg writes them when it can seek, but does not check them."""
    clusters = checked = 0
    with path.open("rb") as file:
        start, end = _segment(file)
        end = end or path.stat().st_size
        while start and start < end:
            file.seek(start)
            element = _element_id(file)
            size, content = _element_size(file), file.tell()
            if not element or not size:
                return False, ""
            clusters += element == CLUSTER
            if file.read(2) == CRC32:
                checked += element == CLUSTER
                expected = int.from_bytes(file.read(4), "little")
                if _crc32(file, size - 6) != expected:
                    return False, f"the checksum of its part at byte {start} does not fit"
            start = content + size
    return 0 < clusters == checked, ""


def _crc32(file: IO[bytes], size: int) -> int:
    value = 0
    while size > 0 and (block := file.read(min(size, BLOCK_BYTES))):
        value = zlib.crc32(block, value)
        size -= len(block)
    return value


def _segment(file: IO[bytes]) -> tuple[int, int]:
    """Where the content of a Matroska file begins, and where it ends as the file says; live recordings do not say, and
    other files have none (0)."""
    if file.read(4) != EBML:
        return 0, 0
    file.seek(_element_size(file), os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0, 0
    size = _element_size(file)
    return file.tell(), file.tell() + size if size else 0


def _element_id(file: IO[bytes]) -> bytes:
    first = file.read(1)
    return first + file.read(8 - first[0].bit_length()) if first and first[0] else b""


def _element_size(file: IO[bytes]) -> int:
    """An EBML length: as many bytes as the first has leading zeros, and itself. All ones means unknown, given as 0."""
    head = file.read(1)
    if not head or not head[0]:
        return 0
    first = head[0]
    more = 8 - first.bit_length()
    size = int.from_bytes(bytes([first & (0x7F >> more)]) + file.read(more), "big")
    return 0 if size == (1 << 7 * (more + 1)) - 1 else size
