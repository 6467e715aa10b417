"""The command: what is wanted, room for it, one download and unpacking after the other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from evalkit import provenance
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.errors import ConfigError, DataError, RunError
from evalkit.fetch.archives import Unpacker, archive_of
from evalkit.fetch.unpacked import UnpackedArchives
from evalkit.fetch.hub import HubClient, Listing, RemoteFile, partial_bytes
from evalkit.job import say
from evalkit.paths import data_dir, hf_home
from evalkit.runs import write_atomically
from evalkit.sources import Hub
from evalkit.task import HubData, Task


def fetch(arguments: Arguments) -> int:
    dry_run, keep, force = arguments.flag("dry_run"), arguments.flag("keep_archives", True), arguments.flag("force")
    if arguments.names:
        raise ConfigError(f'"{arguments.names[0]}" is no setting: python -m evalkit.fetch task=<task> [key=value ...]')
    if any(override.startswith("source") for override in arguments.overrides):
        raise ConfigError("fetch has one source, the hub, and one place, below EVALKIT_DATA: leave out source=.")
    config = arguments.compose()
    task: Task = instantiate(config.task, "task", list(config.plugins))
    if task.hub is None:
        raise ConfigError(
            f"the hub has no copy of {task.benchmark}: get it from its authors, and name its folder with source=local "
            "source.root=<folder>."
        )
    folder, elsewhere = data_dir() / task.hub.folder, hf_home() / task.hub.folder
    if elsewhere.is_dir() and not folder.exists() and not force:
        print(
            f"{task.benchmark} is at {elsewhere} already, where source=hub finds it. Nothing was fetched: check it "
            f"with `python -m evalkit.doctor task={task.name}`, or fetch a copy beside it with force=true."
        )
        return 0
    _fetch(task, task.hub, folder, dry_run, keep)
    if task.hub.by_hand:
        print(f"\nby hand, into {folder}:\n  {task.hub.by_hand}")
    return 0 if dry_run else _conclude(task)


def _fetch(task: Task, hub: HubData, folder: Path, dry_run: bool, keep: bool) -> None:
    client, unpacked = HubClient(), UnpackedArchives(folder)
    loads = [Load(part, client.listing(part), folder, unpacked) for part in (hub, *hub.also)]
    _tell(task, loads, folder, keep)
    if dry_run:
        return
    _check_room(task, loads, folder, keep)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder / ".fetching.lock"), timeout=0):
            for load in loads:
                load.take(client, keep)
            _note_revisions(folder, loads)
    except Timeout:
        raise RunError(f"another process is fetching to {folder}: wait for it.") from None
    except KeyboardInterrupt:
        say("\ninterrupted: the same command goes on from here")
        raise
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}): name another with EVALKIT_DATA.") from None


def _note_revisions(folder: Path, loads: Sequence[Load]) -> None:
    """Which commit of each repository is here; runs put it into their manifest."""
    known = provenance.revisions(folder) | {load.listing.repo: load.listing.commit for load in loads}
    write_atomically(folder / provenance.REVISIONS, json.dumps(known, indent=1) + "\n")


@dataclass
class Load:
    """What is to be taken from one repository."""

    hub: HubData
    listing: Listing
    folder: Path
    unpacked: UnpackedArchives

    @property
    def tables(self) -> list[RemoteFile]:
        """The files that are no archives."""
        return [file for file in self.listing.files if archive_of(file.path) is None]

    @property
    def archives(self) -> dict[str, list[RemoteFile]]:
        """Archive -> its parts in order, for those that are not unpacked yet."""
        found: dict[str, list[RemoteFile]] = {}
        for file in sorted(self.listing.files, key=_in_order):
            if name := archive_of(file.path):
                found.setdefault(name, []).append(file)
        return {name: parts for name, parts in found.items() if not self.unpacked.has(self.listing.repo, name, parts)}

    def missing(self) -> list[RemoteFile]:
        """What is still to be downloaded, wholly or in part."""
        wanted = [*self.tables, *(part for parts in self.archives.values() for part in parts)]
        return [file for file in wanted if not file.is_at(self.folder / file.path)]

    def take(self, client: HubClient, keep: bool) -> None:
        """Download and unpack, one archive after the other."""
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
    """Part 10 comes after part 9."""
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", file.path)]


def _tell(task: Task, loads: Sequence[Load], folder: Path, keep: bool) -> None:
    """What there is, what is left to download, how much room it takes and how much there is."""
    for load in loads:
        total = sum(file.size for file in load.listing.files)
        commit = load.listing.commit[:10]
        print(f"{task.benchmark} ({task.split}): {load.listing.repo} at {commit}, {_count(load.listing.files, total)}")
    missing = [file for load in loads for file in load.missing()]
    packed = sum(part.size for load in loads for parts in load.archives.values() for part in parts)
    if not missing and not packed:
        print(f"  all of it is at {folder}")
        return
    print(f"  to download  {_count(missing, sum(file.size for file in missing))}")
    if packed:
        kept = "the archives stay; keep_archives=false deletes each" if keep else "each archive is deleted afterwards"
        print(f"  to unpack    {_size(packed)}, and at least as much in files ({kept})")
    print(f"  to           {folder}, where {_size(_free(folder))} are free", flush=True)


def _check_room(task: Task, loads: Sequence[Load], folder: Path, keep: bool) -> None:
    needed, free = _needed(loads, keep), _free(folder)
    if needed > free:
        remedy = "add keep_archives=false, " if keep and _needed(loads, keep=False) <= free else ""
        raise DataError(
            f"{task.benchmark} needs about {_size(needed)} and {folder} has {_size(free)} free: {remedy}make room, or "
            "name a folder on another disk with the variable EVALKIT_DATA. Nothing was downloaded."
        )


def _needed(loads: Sequence[Load], keep: bool) -> int:
    """The bytes that will be written at most. Videos are as large unpacked as packed; what an interrupted command
    left behind is there already."""
    missing = {(load.listing.repo, file.path) for load in loads for file in load.missing()}
    archives = [(load.listing.repo, parts) for load in loads for parts in load.archives.values()]
    packed = sum(part.size for _, parts in archives for part in parts)
    to_load = [sum(part.size for part in parts if (repo, part.path) in missing) for repo, parts in archives]
    tables = sum(file.size for load in loads for file in load.tables if (load.listing.repo, file.path) in missing)
    unpacked, folder = loads[0].unpacked, loads[0].folder
    download = tables + (sum(to_load) if keep else max(to_load, default=0))
    listed = {file.path for load in loads for file in load.listing.files}
    return max(0, download - partial_bytes(folder)) + max(0, packed - unpacked.unclaimed_bytes(listed))


def _free(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free


def _count(files: Sequence[RemoteFile], total: int) -> str:
    return f"{len(files)} file{'' if len(files) == 1 else 's'}, {_size(total)}"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def _conclude(task: Task) -> int:
    """Whether the task can be loaded now. What is to be got by hand may be missing."""
    data = Hub().open(task)
    try:
        items = task.read(data)
    except DataError as error:
        print(f"\nnot complete yet: {error}")
        return 0 if task.hub and task.hub.by_hand else 1
    print(
        f"\ncomplete: {len({item.video.path for item in items})} videos, {sum(len(c.questions) for c in items)} "
        f"questions. `python -m evalkit.doctor task={task.name}` decodes each video."
    )
    return 0
