"""What is to be downloaded of one repository, and unpacked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evalkit.fetch.archives import Unpacker, archive_of
from evalkit.fetch.hub import HubClient, Listing, RemoteFile
from evalkit.fetch.unpacked import UnpackedArchives
from evalkit.files import VideoFiles
from evalkit.task import HubData

_VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")


@dataclass
class Download:
    """The files of one repository for one folder. `tables_only`: archives are left out, and so are single videos of
    which the folder has a file by that name."""

    hub: HubData
    listing: Listing
    folder: Path
    unpacked: UnpackedArchives
    tables_only: bool = False

    def wanted(self) -> list[RemoteFile]:
        """All files, in the folder already or not."""
        return self.tables if self.tables_only else list(self.listing.files)

    @cached_property
    def tables(self) -> list[RemoteFile]:
        """The files that are no archives."""
        files = [file for file in self.listing.files if archive_of(file.path) is None]
        if not self.tables_only:
            return files
        there = VideoFiles(self.folder)
        return [f for f in files if not (f.path.endswith(_VIDEOS) and there.find(f.path).is_file())]

    @property
    def archives(self) -> dict[str, list[RemoteFile]]:
        """Archive -> its parts in order, for the archives that are not unpacked yet."""
        found: dict[str, list[RemoteFile]] = {}
        for file in sorted(self.listing.files if not self.tables_only else (), key=_in_order):
            if name := archive_of(file.path):
                found.setdefault(name, []).append(file)
        return {name: parts for name, parts in found.items() if not self.unpacked.has(self.listing.repo, name, parts)}

    def missing(self) -> list[RemoteFile]:
        """The files that are still to be downloaded, wholly or in part."""
        wanted = [*self.tables, *(part for parts in self.archives.values() for part in parts)]
        return [file for file in wanted if not file.is_at(file.below(self.folder))]

    def run(self, client: HubClient, keep: bool) -> None:
        """Download the tables, then download and unpack one archive after the other. `keep`: do not delete the
        archives."""
        for file in self.tables:
            client.download(self.listing, file, self.folder)
        for name, parts in self.archives.items():
            paths = [client.download(self.listing, part, self.folder) for part in parts]
            print(f"unpacking {name}", flush=True)
            self.unpacked.forget(self.listing.repo, name, parts)
            files = Unpacker(self.folder, self.hub.flat, self.unpacked.files()).unpack(paths)
            self.unpacked.add(self.listing.repo, name, parts, files)
            for path in [] if keep else paths:
                path.unlink()


def _in_order(file: RemoteFile) -> list[str | int]:
    """The key by which part 10 comes after part 9."""
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", file.path)]
