"""The Hugging Face hub as fetching needs it: what a repository holds, its files one by one, and one sentence for each
way in which that can fail.

huggingface_hub speaks to it. Its own way to download a file throws away what an interrupted command had got, so the
bytes are kept here: under the digest of the content, until they are all there and have that digest.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha1, sha256
from pathlib import Path, PurePosixPath

from evalkit.errors import DataError
from evalkit.task import HubData

_NETWORK = {"httpx", "httpx2", "httpcore", "requests", "urllib3"}
"""The HTTP clients that versions of huggingface_hub use; what they raise is trouble with the network."""
_SMALL_BYTES = 1 << 26
_BEGUN = ".fetching"


@dataclass(frozen=True)
class RemoteFile:
    """`digest` identifies the content: a sha256, or a git blob id."""

    path: str
    size: int
    digest: str

    def is_at(self, path: Path) -> bool:
        """By its size; small files, which a new version may leave at the same size, by their content."""
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


@dataclass(frozen=True)
class Listing:
    """What is wanted of a repository, at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class HubClient:
    """`endpoint` null: the variable HF_ENDPOINT, else huggingface.co."""

    endpoint: str | None = None

    def listing(self, hub: HubData) -> Listing:
        """Of the first of the repositories that exists. Raises DataError."""
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
        files = tuple(_remote(repo, entry) for entry in entries if isinstance(entry, RepoFile))
        wanted = tuple(file for file in files if _wanted(file.path, hub.files))
        if not wanted:
            raise DataError(f"{repo} ({hub.revision}) has none of the files {', '.join(hub.files)}: was it rearranged?")
        return Listing(repo, commit, wanted)

    def download(self, listing: Listing, file: RemoteFile, folder: Path) -> Path:
        """The file, at its place below `folder`; at once where it is there already. Raises DataError."""
        path, begun = folder / file.path, folder / _BEGUN / file.digest
        if file.is_at(path):
            return path
        with _explained(listing.repo):
            begun.parent.mkdir(parents=True, exist_ok=True)
            self._get(listing, file, begun)
            if not file.is_content_of(begun):
                begun.unlink()
                raise DataError(
                    f"{file.path} of {listing.repo} came damaged: its content is not what the hub says it is. Repeat "
                    "the same command: it is fetched anew."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            begun.replace(path)
        return path

    def _get(self, listing: Listing, file: RemoteFile, begun: Path) -> None:
        """Append to `begun` what it lacks, over as many broken connections as bring some of it."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(listing.repo, file.path, repo_type="dataset", revision=listing.commit, endpoint=self.endpoint)
        # identity: a compressed body could not be gone on with
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        while True:
            with begun.open("ab") as target:
                had = target.tell()
                if had == file.size:
                    return
                try:
                    http_get(url, target, resume_size=had, headers=headers, expected_size=file.size)
                except Exception as error:  # its HTTP library differs by version; what is not the network's goes on up
                    if not _of_network(error) or target.tell() == had:
                        raise


def begun_bytes(folder: Path) -> int:
    """The bytes of downloads to `folder` that were interrupted."""
    return sum(path.stat().st_size for path in (folder / _BEGUN).glob("*"))


def _wanted(path: str, patterns: tuple[str, ...]) -> bool:
    return PurePosixPath(path).name != ".gitattributes" and any(fnmatch(path, pattern) for pattern in patterns)


def _remote(repo: str, entry: object) -> RemoteFile:
    from huggingface_hub.hf_api import RepoFile

    assert isinstance(entry, RepoFile)
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.path:
        raise DataError(f"{repo} lists a file {entry.path!r}, which would be written outside the folder of the data.")
    return RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn what goes wrong at the hub, on the way or on the disk into a DataError that says what to do."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # what has no explanation is raised again as it is
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
    if isinstance(error, LocalEntryNotFoundError) or _of_network(error):
        return f"the hub cannot be reached for {repo} ({_first_line(error)}). Is there a network? {again}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full while fetching {repo}. Make room and repeat the same command: it goes on from there."
    if isinstance(error, OSError):
        return f"{repo} could not be fetched ({error.strerror or _first_line(error)}). {again}"
    return None


def _of_network(error: Exception) -> bool:
    """Trouble on the way; an answer of the hub that is an error is none."""
    return type(error).__module__.split(".")[0] in _NETWORK


def _first_line(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
