"""Unpack zip and tar archives that are not trusted: nothing is written outside the folder, no links and devices are
made, and an archive that would unpack to far more than its size is refused.

A member is written to a temporary name and renamed when it is complete. One that is there already in its full size is
not written again, so an interrupted unpacking continues where it stopped.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from evalkit.errors import DataError
from evalkit.tables import shown

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ARCHIVE = re.compile(r"\.(zip|tar|tar\.gz|tgz)(?:\.part[._-]?([a-z]+|\d+))?$", re.IGNORECASE)
_GROWTH, _SPARE_BYTES = 20, 1 << 26
"""An archive may unpack to 20 times its size and 64 MB; videos do not shrink, text does so ten times at most."""
_MOST_MEMBERS = 1_000_000
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What the libraries raise for damaged archives and for unknown compressions."""


def archive_of(name: str) -> str | None:
    """The archive that a file is, or is a part of: `videos.tar` for `videos.tar.part.aa`; None for other files."""
    match = _ARCHIVE.search(name)
    return None if match is None else name[: match.start()] + f".{match[1].lower()}"


@dataclass
class Unpacker:
    """Unpacks archives to `folder`. `flat`: all files into the one folder, whatever folders the archive has. `written`:
    the path and the size in bytes of every file unpacked so far, by all archives. Two different files with one path
    are an error; the same file twice is not."""

    folder: Path
    flat: bool = False
    written: dict[str, int] = field(default_factory=dict)

    def unpack(self, parts: Sequence[Path]) -> dict[str, int]:
        """Unpack one archive, or the parts of one in their order, and return its files (relative path -> bytes).

        Parts are read one after the other, never joined on the disk. Raises DataError naming archive and member.
        """
        archive = parts[0]
        files: dict[str, int] = {}
        allowance = _Allowance(archive, sum(part.stat().st_size for part in parts))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _members(parts) as members:
                if isinstance(members, list):  # of a zip; a tar is a stream, and says what it holds as it is read
                    self._check_room(archive, members)
                for member in members:
                    name = self._name(archive, member.name)
                    if name is not None:
                        allowance.take(member.size)
                        self._unpack_member(archive, name, member)
                        files[name] = member.size
        except OSError as error:
            if error.errno is None or isinstance(error, gzip.BadGzipFile):  # raised by a decompressor
                raise _damaged(archive, error) from None
            raise DataError(
                f"{archive} cannot be unpacked to {self.folder} ({error.strerror}). Make room or change the "
                "permissions, and repeat the same command: it continues where it stopped."
            ) from None
        except _DAMAGE as error:
            raise _damaged(archive, error) from None
        return files

    def _unpack_member(self, archive: Path, name: str, member: _Member) -> None:
        """Two members with one path must be the same file: the second is compared, never dropped unread."""
        if name not in self.written:
            self.written[name] = member.size
            self._write(name, member)
        elif self.written[name] != member.size:
            sizes = f"one of {self.written[name]} and one of {member.size} bytes"
            raise self._conflict(archive, name, sizes)
        elif not self._is_there(name, member.size):
            self._write(name, member)
        elif not self._is_content(name, member):
            raise self._conflict(archive, name, f"both of {member.size} bytes")

    def _conflict(self, archive: Path, name: str, sizes: str) -> DataError:
        return DataError(
            f"{archive} has a second file {name} with another content ({sizes}): one would replace the other. Unpack "
            "the archives by hand and name the folder with source=local source.root=<folder>."
        )

    def _is_content(self, name: str, member: _Member) -> bool:
        with member.open() as source, (self.folder / name).open("rb") as file:
            while block := source.read(1 << 20):
                if file.read(len(block)) != block:
                    return False
            return not file.read(1)

    def _name(self, archive: Path, name: str) -> str | None:
        """The member's path below the folder; None for hidden files of packing tools. Raises DataError for a path
        outside the folder, and for a name that no file can have."""
        path = PurePosixPath(name.replace("\\", "/"))
        parts = [part for part in path.parts if part != "."]
        if path.is_absolute() or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
            raise DataError(
                f"{archive}: its member {shown(name)} would be written outside {self.folder}. Do not use this archive: "
                "delete it, and tell its publisher."
            )
        if any(len(os.fsencode(part)) > 255 for part in parts):
            raise DataError(f"{archive}: its member {shown(name)} has a name that no file can have.")
        if not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return None
        return parts[-1] if self.flat else "/".join(parts)

    def _is_there(self, name: str, size: int) -> bool:
        target = self.folder / name
        return target.is_file() and target.stat().st_size == size

    def _check_room(self, archive: Path, members: Sequence[_Member]) -> None:
        named = ((self._name(archive, member.name), member.size) for member in members)
        needed = sum(size for name, size in named if name is not None and not self._is_there(name, size))
        _Allowance(archive, archive.stat().st_size).take(needed)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"{archive} unpacks to {needed / 1e9:.1f} GB and {self.folder} has {free / 1e9:.1f} GB free. Make room "
                "and repeat the same command."
            )

    def _write(self, name: str, member: _Member) -> None:
        if self._is_there(name, member.size):
            return
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / f".{os.getpid()}.part"
        try:
            with member.open() as source, part.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            if part.stat().st_size != member.size:
                raise EOFError(f"{name} ends early")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(
        f"{archive} cannot be unpacked ({error}): it is damaged, or of an unknown kind. Delete it and repeat the same "
        "command to download it again."
    )


@dataclass
class _Allowance:
    """The most that an archive of this size may unpack to."""

    archive: Path
    packed_bytes: int
    unpacked_bytes: int = 0
    members: int = 0

    def take(self, size: int) -> None:
        self.unpacked_bytes += size
        self.members += 1
        if self.unpacked_bytes > _GROWTH * self.packed_bytes + _SPARE_BYTES or self.members > _MOST_MEMBERS:
            raise DataError(
                f"{self.archive} has {self.packed_bytes} bytes and would unpack to more than {_GROWTH} times that: "
                "it looks like an archive made to fill the disk. Delete it, and tell its publisher."
            )


@dataclass(frozen=True)
class _Member:
    """A regular file in an archive."""

    name: str
    size: int
    source: tuple[zipfile.ZipFile, zipfile.ZipInfo] | tuple[tarfile.TarFile, tarfile.TarInfo]

    def open(self) -> IO[bytes]:
        archive, info = self.source
        if isinstance(archive, zipfile.ZipFile):
            assert isinstance(info, zipfile.ZipInfo)
            return archive.open(info)
        assert isinstance(info, tarfile.TarInfo)
        file = archive.extractfile(info)
        assert file is not None  # only None for members that are no files
        return file


@contextmanager
def _members(parts: Sequence[Path]) -> Iterator[list[_Member] | Iterator[_Member]]:
    """The regular files of an archive. Raises DataError for one that holds anything else."""
    kind = archive_of(parts[0].name) or ""
    if not kind.endswith(".zip"):
        with io.BufferedReader(_Joined(parts), 1 << 20) as joined:
            stream = gzip.GzipFile(fileobj=joined) if kind.endswith("gz") else joined
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                yield _of_tar(tar, parts[0])
    elif len(parts) == 1:
        with zipfile.ZipFile(parts[0]) as archive:
            yield _of_zip(archive, parts[0])
    else:
        raise DataError(f"{parts[0]}: zip archives in parts are not supported; join and unpack them by hand.")


def _of_zip(archive: zipfile.ZipFile, path: Path) -> list[_Member]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    for info in infos:
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _not_a_file(path, info.filename)
    return [_Member(info.filename, info.file_size, (archive, info)) for info in infos]


def _of_tar(archive: tarfile.TarFile, path: Path) -> Iterator[_Member]:
    for info in archive:
        if info.isdir():
            continue
        if not info.isreg():
            raise _not_a_file(path, info.name)
        yield _Member(info.name, info.size, (archive, info))
        archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header that it has seen
    _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """tarfile treats a header that it cannot read, and a stream that stops between two files, as the end."""
    stream = archive.fileobj
    assert stream is not None
    if stream.tell() < archive.offset + tarfile.BLOCKSIZE:
        raise EOFError("it ends early")
    while rest := stream.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError(f"no header is readable behind byte {archive.offset}")


def _not_a_file(archive: Path, name: str) -> DataError:
    return DataError(
        f"{archive}: its member {shown(name)} is a link or a device. Archives of videos hold only files: delete it, "
        "and tell its publisher."
    )


class _Joined(io.RawIOBase):
    """Files read one after the other as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._left = list(paths)
        self._file: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while True:
            if self._file is None:
                if not self._left:
                    return 0
                self._file = self._left.pop(0).open("rb", buffering=0)
            count = self._file.readinto(view)  # type: ignore[attr-defined]  # an unbuffered file has it
            if count:
                return int(count)
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()
