"""List a repository of the Hugging Face hub and download its files; one message for each way in which that can fail.

The library huggingface_hub makes the requests. Its own download of a file starts again after an interruption, so the
bytes are kept here: in a file named by the digest of the content, until all of them are there and have that digest.

Whatever a hub answers is checked before it is used as a path: a digest is 40 or 64 hexadecimal digits, and a file lies
below the folder of the data.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha1, sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from evalkit.errors import DataError
from evalkit.tables import shown
from evalkit.task import HubData
from evalkit.text import first_line

_NETWORK = {"httpx", "httpx2", "httpcore", "requests", "urllib3"}
"""The HTTP clients that versions of huggingface_hub use; what they raise are errors of the network."""
_SMALL_BYTES = 1 << 26
_PARTIAL = ".fetching"
"""The folder of downloads that are not complete."""
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NAME_BYTES = 255


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `digest` identifies the content: a sha256 (64 digits) or a git blob id (40). Raises
    DataError for a path outside the folder of the data and for a digest or a size that is none."""

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        check_path(self.path)
        if not isinstance(self.digest, str) or not _DIGEST.fullmatch(self.digest):
            raise DataError(
                f"the hub gives {shown(self.path)} the digest {shown(self.digest)}, which is none. Do not use this hub."
            )
        if type(self.size) is not int or self.size < 0:
            raise DataError(f"the hub gives {shown(self.path)} the size {shown(self.size)}. Do not use this hub.")

    def below(self, folder: Path) -> Path:
        """Its place below the folder. Raises DataError for a place outside."""
        return checked_place(folder, self.path)

    def is_at(self, path: Path) -> bool:
        """Whether the file is there, by its size; small files, whose new version may have the same size, by content."""
        if not (path.is_file() and path.stat().st_size == self.size):
            return False
        return self.size > _SMALL_BYTES or self.is_content_of(path)

    def is_content_of(self, path: Path) -> bool:
        """Whether the file's content has the digest."""
        digest = sha256() if len(self.digest) == 64 else sha1(f"blob {self.size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest() == self.digest


def check_path(path: object) -> None:
    """Raises DataError for what is not the path of a file below the folder of the data."""
    parts = path.split("/") if isinstance(path, str) else []
    if not parts or {"", ".", ".."} & {*parts} or re.search(r"[\\\0]|^[A-Za-z]:", str(path)):
        raise DataError(f"the hub lists a file {shown(path)}, which would be written outside the folder of the data.")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        longest = _NAME_BYTES + 1
    if longest > _NAME_BYTES:
        raise DataError(f"the hub lists a file {shown(path)}, a name that no file can have.")


def checked_place(folder: Path, path: str) -> Path:
    """`folder / path`, checked once more where it is opened or deleted: links that lead out of the folder count."""
    check_path(path)
    place = folder / path
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{place} leads outside {folder}: remove the link that is in its way.")
    return place


@dataclass(frozen=True)
class Listing:
    """The wanted files of a repository, at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class HubClient:
    """`endpoint` null: the variable HF_ENDPOINT, else huggingface.co."""

    endpoint: str | None = None

    def listing(self, hub: HubData) -> Listing:
        """Of the first repository of `hub.repos` that exists. Raises DataError."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        for repo in hub.repos:
            with _explained(repo):
                try:
                    return self._list(repo, hub)
                except GatedRepoError:
                    raise
                except RepositoryNotFoundError:
                    continue
        raise DataError(
            f"the hub has no dataset {' or '.join(hub.repos)}: it was renamed, removed or made private. If you know "
            "its new place, download it from there and name the folder with source=local source.root=<folder>."
        )

    def _list(self, repo: str, hub: HubData) -> Listing:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=self.endpoint)
        commit = api.repo_info(repo, repo_type="dataset", revision=hub.revision).sha
        assert commit is not None  # only None where it was not asked for
        if hub.gated:
            api.auth_check(repo, repo_type="dataset")
        entries = api.list_repo_tree(repo, repo_type="dataset", revision=commit, recursive=True)
        try:
            files = tuple(_remote(entry) for entry in entries if isinstance(entry, RepoFile))
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # raised where the library parses it
            raise DataError(f"the hub's listing of {repo} is malformed ({error!r}). Is HF_ENDPOINT a hub?") from None
        wanted = tuple(file for file in files if _wanted(file.path, hub.files))
        if not wanted:
            raise DataError(f"{repo} ({hub.revision}) has none of the files {', '.join(hub.files)}: was it rearranged?")
        return Listing(repo, commit, wanted)

    def download(self, listing: Listing, file: RemoteFile, folder: Path) -> Path:
        """The file, at its place below `folder`; at once where it is there already. Raises DataError."""
        path, partial = file.below(folder), checked_place(folder, f"{_PARTIAL}/{file.digest}")
        if file.is_at(path):
            return path
        with _explained(listing.repo):
            partial.parent.mkdir(parents=True, exist_ok=True)
            self._get(listing, file, partial)
            if not file.is_content_of(partial):
                partial.unlink()
                raise DataError(
                    f"{file.path} of {listing.repo} came damaged: its content is not what the hub says it is. Repeat "
                    "the same command: it is fetched anew."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
        return path

    def _get(self, listing: Listing, file: RemoteFile, partial: Path) -> None:
        """Append to `partial` the bytes that it lacks; after a broken connection go on, as long as each brings some."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(listing.repo, file.path, repo_type="dataset", revision=listing.commit, endpoint=self.endpoint)
        # identity: a compressed body could not be continued
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        while True:
            with partial.open("ab") as target:
                had = target.tell()
                if had == file.size:
                    return
                limited = cast(BinaryIO, _Limited(target, file))
                try:
                    http_get(url, limited, resume_size=had, headers=headers, expected_size=file.size)
                except Exception as error:  # its HTTP library differs by version; other errors are raised again
                    if not _of_network(error) or target.tell() == had:
                        raise


class _Limited:
    """A file open for writing that takes no more bytes than the listing promised: a response may have no end."""

    def __init__(self, target: BinaryIO, file: RemoteFile) -> None:
        self._target, self._file = target, file

    def write(self, data: bytes) -> int:
        if self._target.tell() + len(data) > self._file.size:
            self._target.truncate(0)
            raise DataError(f"the hub sends more than the {self._file.size} bytes that it lists for {self._file.path}.")
        return self._target.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def partial_bytes(folder: Path) -> int:
    """The bytes of downloads to `folder` that were interrupted."""
    return sum(path.stat().st_size for path in (folder / _PARTIAL).glob("*"))


def _wanted(path: str, patterns: tuple[str, ...]) -> bool:
    """Names that begin with a dot are of git and of tools; evalkit's own notes beside the data have such names."""
    hidden = any(part.startswith(".") for part in PurePosixPath(path).parts)
    return not hidden and any(fnmatch(path, pattern) for pattern in patterns)


def _remote(entry: object) -> RemoteFile:
    from huggingface_hub.hf_api import RepoFile

    assert isinstance(entry, RepoFile)
    return RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn errors of the hub, of the network and of the disk into a DataError that says what to do."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # an error without an explanation is raised again as it is
        sentence = _explanation(repo, error)
        if sentence is None:
            raise
        raise DataError(sentence) from error


def _explanation(repo: str, error: Exception) -> str | None:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/datasets/{repo}"
    again = "Repeat the same command later: it goes on where it stopped."
    if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
        return (
            f"{repo} cannot be fetched while HF_HUB_OFFLINE is set: unset it, or download the data elsewhere and name "
            "the folder with source=local source.root=<folder>."
        )
    if isinstance(error, GatedRepoError):
        return (
            f"{repo} is gated. Accept its terms on {page}, log in on this machine with `huggingface-cli login` (`hf "
            "auth login` in newer versions) or set HF_TOKEN to a token of that account, and repeat the same command."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no such revision any more: see {page}."
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return (
                f"the hub refuses access to {repo} ({status}): the token in HF_TOKEN or of `huggingface-cli login` is "
                f"not valid for {page}."
            )
        return f"the hub answers {status} for {repo}. {again}"
    reason = first_line(error.__cause__ or error)
    if isinstance(error, LocalEntryNotFoundError) or _of_network(error):
        return f"the hub cannot be reached for {repo} ({reason}). Is there a network? {again}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full while fetching {repo}. Make room and repeat the same command: it goes on from there."
    if isinstance(error, OSError):
        return f"{repo} could not be fetched ({error.strerror or reason}). {again}"
    return None


def _of_network(error: Exception) -> bool:
    """Whether the connection failed, rather than the hub answering with an error."""
    return type(error).__module__.split(".")[0] in _NETWORK
