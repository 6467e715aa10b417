"""What a container says it holds, to be compared with what is there.

MP4 lists its frames; AVI lists its chunks at its end and a count at its start; Matroska says where it ends and how long
it lasts. Fragmented MP4 and transport streams promise nothing, but a packet cut short shows where they break off.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

AVI_ENTRY = np.dtype([("chunk", "S4"), ("flags", "<u4"), ("offset", "<u4"), ("size", "<u4")])


@dataclass(frozen=True)
class Promises:
    """0 where the container says nothing."""

    packets: int
    duration_s: float
    size_bytes: int


def promises(path: Path, container: InputContainer, stream: VideoStream) -> Promises:
    """Of an open file, for its video stream."""
    name = container.format.name
    packets = stream.frames
    if name == "avi":
        packets = _avi_chunks(path, stream.index) or packets
    if "matroska" in name:
        lasting = container.duration / av.time_base if container.duration else 0.0
        return Promises(packets, lasting, _matroska_end(path))
    return Promises(packets, 0.0, 0)


def _avi_chunks(path: Path, stream: int) -> int:
    """Chunks with a picture in them, by the index at the end. The header counts also the empty ones by which AVI
    repeats a picture, and those are no packets."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        place = 12
        while place + 8 <= end:
            file.seek(place)
            chunk, size = file.read(4), int.from_bytes(file.read(4), "little")
            if chunk == b"idx1":
                listed = np.frombuffer(file.read(size - size % AVI_ENTRY.itemsize), AVI_ENTRY)
                ours = np.isin(listed["chunk"], [b"%02ddc" % stream, b"%02ddb" % stream])
                return int((ours & (listed["size"] > 0)).sum())
            place += 8 + size + size % 2
    return 0


def _matroska_end(path: Path) -> int:
    """Where the file says that it ends; live recordings do not say."""
    with path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return 0
        file.seek(_element_size(file), os.SEEK_CUR)
        if file.read(4) != b"\x18\x53\x80\x67":
            return 0
        size = _element_size(file)
        return file.tell() + size if size else 0


def _element_size(file: IO[bytes]) -> int:
    """An EBML length: as many bytes as the first has leading zeros, and itself. All ones is unknown, given as 0."""
    first = file.read(1)[0]
    more = 8 - first.bit_length()
    size = int.from_bytes(bytes([first & (0x7F >> more)]) + file.read(more), "big")
    return 0 if size == (1 << 7 * (more + 1)) - 1 else size
