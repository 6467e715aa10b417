"""Data inside a page: gzipped JSON in base64, which a script on the page decompresses when it is shown."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode

_GZIP = 31
"""The window of zlib with the header of a gzip file."""


class Block:
    """A JSON array that grows one value at a time. Only its compressed bytes are kept."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(level=4, wbits=_GZIP)
        self._parts: list[bytes] = []
        self.values = 0

    def add(self, value: object) -> None:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        self._parts.append(self._compressor.compress(("," if self.values else "[").encode() + text.encode()))
        self.values += 1

    def base64(self) -> str:
        """The whole array; the block takes no more values."""
        end = self._compressor.compress(b"]" if self.values else b"[]") + self._compressor.flush()
        return b64encode(b"".join((*self._parts, end))).decode("ascii")


def script_json(value: object) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
