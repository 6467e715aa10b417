"""The command: what is missing, whether there is room for it, then one download and unpacking after the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from evalkit import provenance
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.errors import ConfigError, DataError, RunError
from evalkit.fetch.download import Download
from evalkit.fetch.hub import HubClient, RemoteFile, partial_bytes
from evalkit.fetch.unpacked import UnpackedArchives
from evalkit.job import say
from evalkit.paths import benchmark_folders
from evalkit.runs import write_atomically
from evalkit.tables import BadRows
from evalkit.task import DataSet, HubData, Task


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
    own, *others = benchmark_folders(task.hub.folder)
    with _writing(own):
        used = [place for place in others if _has_files(place)]
        if used and not force and not own.exists():
            return _complete(task, task.hub, used[0], dry_run)
        _fetch(task, task.hub, own, dry_run, keep)
        if task.hub.by_hand:
            print(f"\nby hand, into {own}:\n  {task.hub.by_hand}")
        return 0 if dry_run else _check_result(task, own)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _complete(task: Task, hub: HubData, folder: Path, dry_run: bool) -> int:
    """For a copy that another harness has unpacked: its videos are kept, and only tables that are missing are
    downloaded, into the same folder."""
    print(f"{task.benchmark} ({task.split}): another harness has unpacked videos to {folder}; they are kept")
    try:
        task.incomplete().read(DataSet(folder, "hub"))
    except BadRows:
        pass  # the tables are there
    except DataError:
        _fetch(task, hub, folder, dry_run, keep=True, tables_only=True)
        if dry_run:
            return 0
    else:
        print("  its tables are there: nothing was fetched")
    code = _check_result(task, folder)
    if code:
        print(f"To download a whole copy of its own below {benchmark_folders('')[0]}, repeat with force=true.")
    return code


def _fetch(task: Task, hub: HubData, folder: Path, dry_run: bool, keep: bool, tables_only: bool = False) -> None:
    client, unpacked = HubClient(), UnpackedArchives(folder)
    parts = (hub, *hub.also)
    downloads = [Download(part, client.listing(part), folder, unpacked, tables_only) for part in parts]
    _print_sizes(task, downloads, folder, keep)
    if dry_run:
        return
    _check_room(task, downloads, folder, keep)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder / ".fetching.lock"), timeout=0):
        for download in downloads:
            download.run(client, keep)
        _note_revisions(folder, downloads)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of the folder and of the lock in it into messages."""
    try:
        yield
    except Timeout:
        raise RunError(f"another process is fetching to {folder}: wait for it.") from None
    except KeyboardInterrupt:
        say("\ninterrupted: the same command goes on from here")
        raise
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read or written ({error.strerror or error}): change its permissions, or name a "
            "folder on another disk with the variable EVALKIT_DATA."
        ) from None


def _note_revisions(folder: Path, downloads: Sequence[Download]) -> None:
    """Write which commit of each repository is here; runs copy it to their manifest."""
    known = provenance.revisions(folder) | {part.listing.repo: part.listing.commit for part in downloads}
    write_atomically(folder / provenance.REVISIONS, json.dumps(known, indent=1) + "\n")


def _print_sizes(task: Task, downloads: Sequence[Download], folder: Path, keep: bool) -> None:
    """What the repositories have, what is left to download, how much room it takes and how much there is."""
    for part in downloads:
        files = part.wanted()
        print(f"{task.benchmark} ({task.split}): {part.listing.repo} at {part.listing.commit[:10]}, {_count(files)}")
    missing = [file for part in downloads for file in part.missing()]
    packed = sum(file.size for part in downloads for files in part.archives.values() for file in files)
    if not missing and not packed:
        print(f"  all of it is at {folder}")
        return
    print(f"  to download  {_count(missing)}")
    if packed:
        kept = "the archives stay; keep_archives=false deletes each" if keep else "each archive is deleted afterwards"
        print(f"  to unpack    {_size(packed)}, and at least as much in files ({kept})")
    print(f"  to           {folder}, where {_size(_free(folder))} are free", flush=True)


def _check_room(task: Task, downloads: Sequence[Download], folder: Path, keep: bool) -> None:
    needed, free = _needed(downloads, keep), _free(folder)
    if needed > free:
        remedy = "add keep_archives=false, " if keep and _needed(downloads, keep=False) <= free else ""
        raise DataError(
            f"{task.benchmark} needs about {_size(needed)} and {folder} has {_size(free)} free: {remedy}make room, or "
            "name a folder on another disk with the variable EVALKIT_DATA. Nothing was downloaded."
        )


def _needed(downloads: Sequence[Download], keep: bool) -> int:
    """The bytes that will be written at most. Videos are as large unpacked as packed; what an interrupted command has
    written is there already."""
    missing = {(part.listing.repo, file.path) for part in downloads for file in part.missing()}
    archives = [(part.listing.repo, files) for part in downloads for files in part.archives.values()]
    packed = sum(file.size for _, files in archives for file in files)
    to_load = [sum(file.size for file in files if (repo, file.path) in missing) for repo, files in archives]
    tables = sum(file.size for part in downloads for file in part.tables if (part.listing.repo, file.path) in missing)
    unpacked, folder = downloads[0].unpacked, downloads[0].folder
    download = tables + (sum(to_load) if keep else max(to_load, default=0))
    listed = {file.path for part in downloads for file in part.listing.files}
    left = unpacked.unclaimed_bytes(listed) if packed else 0
    return max(0, download - partial_bytes(folder)) + max(0, packed - left)


def _free(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free


def _count(files: Sequence[RemoteFile]) -> str:
    return f"{len(files)} file{'' if len(files) == 1 else 's'}, {_size(sum(file.size for file in files))}"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def _check_result(task: Task, folder: Path) -> int:
    """Whether the task can be read now; data that must be got by hand may be missing."""
    remedy = f"`python -m evalkit.doctor task={task.name}` lists everything that is missing."
    try:
        items = task.read(DataSet(folder, "hub", remedy))
    except DataError as error:
        print(f"\nnot complete yet: {error}")
        return 0 if task.hub and task.hub.by_hand else 1
    print(
        f"\ncomplete: {len({item.video.path for item in items})} videos, {sum(len(c.questions) for c in items)} "
        f"questions. `python -m evalkit.doctor task={task.name}` decodes each video."
    )
    return 0
