"""Signs of damage in the bytes of compressed packets that decoders do not report.

H.264 and HEVC never have three bytes 00 00 00, 00 00 01 or 00 00 02 within a unit (an 03 would stand between), and MP4
and Matroska say how long each unit is. A JPEG scan has no markers except restarts. Arithmetic coders hardly ever write
long runs of zeros, but a missing part of a file is read as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

FORBIDDEN = re.compile(rb"\x00\x00[\x00-\x02]")
BETWEEN_START_CODES = re.compile(rb"\x00\x00(?:\x02|\x00+[^\x00\x01])")
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
ZEROS = bytes(64)
MAX_TRAILING_ZEROS = 16
ENTROPY_CODED = ("vp8", "vp9", "av1", "mjpeg", "mpeg4", "theora")

NOTICES_DAMAGE = ("h264", "vp9", "av1", "libdav1d", "ffv1", "gif", "png", "apng")
"""Codecs whose decoders noticed nearly all damage in benchmarks/video_fuzz.py."""

START_CODE = re.compile(rb"\x00\x00\x01")


class PayloadCheck:
    """Checks the packets of one stream. `damage` says what is certainly wrong with a packet, `doubt` what is hardly
    ever right; '' where nothing is."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self.codec = codec
        header = extradata or b""
        self._length_bytes = 0  # of the length before each unit; 0: units are found by start codes
        if codec == "h264" and header[:1] == b"\x01" and len(header) > 4:
            self._length_bytes = (header[4] & 3) + 1
        if codec == "hevc" and header[:1] == b"\x01" and len(header) > 21:
            self._length_bytes = (header[21] & 3) + 1

    def damage(self, packet: bytes) -> str:
        if self._length_bytes:
            return self._unit_damage(packet)
        if self.codec in ("h264", "hevc") and (BETWEEN_START_CODES.search(packet) or ZEROS in packet):
            return "a packet has bytes that its codec forbids"
        if self.codec == "mjpeg":
            scan, end = packet.rfind(b"\xff\xda"), packet.rfind(b"\xff\xd9")
            if scan < 0:
                return "a picture has no scan"
            start = scan + 2 + int.from_bytes(packet[scan + 2 : scan + 4], "big")
            if JPEG_MARKER.search(packet, start, end if end > scan else len(packet)):
                return "a picture is interrupted by a marker"
        return ""

    def doubt(self, packet: bytes) -> str:
        if self.codec in ENTROPY_CODED and ZEROS in packet:
            return "a packet has a long run of zero bytes, as where a part of the file is missing"
        if self.codec not in NOTICES_DAMAGE:
            return f"{self.codec} has no checksums, and its decoder does not notice all damage"
        return ""

    def _unit_damage(self, packet: bytes) -> str:
        place = 0
        while place < len(packet):
            start = place + self._length_bytes
            place = start + int.from_bytes(packet[place:start], "big")
            if place > len(packet) or place == start:
                return "the parts of a packet do not fill it"
            if packet[start] & 0x80:
                return "a packet has a part of no kind"
            if self._is_slice(packet[start]) and FORBIDDEN.search(packet, start, place):
                unit = packet[start:place].rstrip(b"\0")  # a few zeros may follow a unit
                if FORBIDDEN.search(unit) or len(unit) < place - start - MAX_TRAILING_ZEROS:
                    return "a packet has bytes that its codec forbids"
        return ""

    def _is_slice(self, first: int) -> bool:
        """Whether a unit holds pixels, by its first byte. Others are sometimes written against the rules."""
        return 1 <= first & 0x1F <= 5 if self.codec == "h264" else first >> 1 & 0x3F < 32

    def units(self, packet: bytes) -> Iterator[int]:
        """The first byte of each unit of an H.264 or HEVC packet."""
        if not self._length_bytes:
            yield from (packet[m.end()] for m in START_CODE.finditer(packet) if m.end() < len(packet))
            return
        place = 0
        while place + self._length_bytes < len(packet):
            start = place + self._length_bytes
            yield packet[start]
            place = start + int.from_bytes(packet[place:start], "big")

    def entry_point(self, packet: bytes) -> bool:
        """Whether every decoder can start from this key packet: an IDR picture in H.264 and HEVC. Other codecs mark no
        other packets as key."""
        if self.codec == "h264":
            return any(unit & 0x1F == 5 for unit in self.units(packet))
        if self.codec == "hevc":
            return any(unit >> 1 & 0x3F in (19, 20) for unit in self.units(packet))
        return True
