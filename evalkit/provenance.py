"""What a run is based on (code, packages, data, decoder, hardware), for its manifest.json. Does not import torch."""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from evalkit import PACKAGE_ROOT, __version__
from evalkit.task import DataSet
from evalkit.types import Prefill, Record, VideoQuestions
from evalkit.video.identity import identity

_PACKAGES = ("torch", "transformers", "tokenizers", "av", "decord", "pillow", "numpy", "datasets", "flash-attn")
_CORE = ("evaluate.py", "recorder.py", "task.py", "model.py", "types.py", "tables.py", "video", "scoring")
"""The modules of evalkit that can change an answer or a grade. Reports and trackers cannot."""


def code(*settings: object) -> dict[str, Any]:
    """evalkit's version, its git revision (None outside a repository), and a hash of the source code that the answers
    depend on: evalkit's core, the modules of the classes of `settings` (a task, a model), and the modules that these
    import from their own packages."""
    here = Path(__file__).resolve().parent
    core = [here / name for name in _CORE]
    files = {file for place in core for file in ([place] if place.is_file() else place.rglob("*.py"))}
    for instance in settings:
        files |= own_files(type(instance))
    digest = sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return {"evalkit": __version__, **_git(PACKAGE_ROOT), "source_sha256": digest.hexdigest()}


def own_files(cls: type) -> set[Path]:
    """The source files of a class and its bases, and of the modules that they import from their own packages. Of the
    package evalkit itself only the file of the class is included; `code` adds evalkit's core."""
    waiting = [base.__module__ for base in cls.__mro__ if base.__module__ not in ("builtins", "abc")]
    package = {_package(name) for name in waiting} - {"evalkit"}
    own = _source(cls.__module__)
    seen = {cls.__module__: own} if own and _package(cls.__module__) == "evalkit" else {}
    while waiting:
        name = waiting.pop()
        if name in seen or _package(name) not in package or (file := _source(name)) is None:
            continue
        seen[name] = file
        waiting += _imported(name, file)
    return set(seen.values())


def _package(module: str) -> str:
    """The package of a module: `evalkit.tasks`, `evalkit.models`, or the first part of the name."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[:2] in (["evalkit", "tasks"], ["evalkit", "models"]) else parts[0]


def _source(module: str) -> Path | None:
    """The source file of a module, found without importing it. None where there is none, and for a name that is not a
    module (a class or a function in one)."""
    package = _package(module)
    spec = find_spec(package)
    inner = module.split(".")[len(package.split(".")) :]
    places = [Path(place, *inner) for place in (spec.submodule_search_locations or ())] if spec else []
    files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    if spec and spec.origin and not inner:
        files.insert(0, Path(spec.origin))
    return next((file.resolve() for file in files if file.suffix == ".py" and file.is_file()), None)


def _imported(module: str, file: Path) -> list[str]:
    """Names of the modules that a source file imports, anywhere in it, and of its parent packages."""
    names = [module.rpartition(".")[0]]
    parents = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return [name for name in names if name]


def _git(root: Path) -> dict[str, Any]:
    if not (root / ".git").exists():
        return {"revision": None, "dirty": None}
    try:
        revision = _git_output(root, "rev-parse", "HEAD")
        return {"revision": revision, "dirty": bool(_git_output(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):  # no git on this machine; the source hash still identifies the code
        return {"revision": None, "dirty": None}


def _git_output(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def packages() -> dict[str, str]:
    """Versions of the installed packages that can change an answer."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """The machine of this process. Workers on other machines report their own."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
    }


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU that this process may use, from nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):  # no nvidia-smi, or no GPU
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.count(",") == 4]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [name.strip() for name in visible.split(",") if name.strip()]
        rows = [row for row in rows if row[0] in named or any(row[1].startswith(name) for name in named)]
    return [f"{name}, {memory}, driver {driver}" for _, _, name, memory, driver in rows]


def decoder(backend: str) -> dict[str, str]:
    """The decoder that is tried first, and the version of ffmpeg. `Prefill.decoder` says which one read a video."""
    import av

    return {"backend": backend, "ffmpeg": str(av.ffmpeg_version_info)}


def replaced_videos(
    records: Iterable[Record], prefills: Mapping[str, Prefill], items: Sequence[VideoQuestions]
) -> list[str]:
    """Ids of the videos whose file is not the one that their stored answers were made from."""
    paths = {item.video.id: item.video.path for item in items}
    used = (prefills.get(r.prefill or "") for r in records if r.status != "failed")
    before = files(prefill for prefill in used if prefill is not None)
    return sorted(video for video, file in before.items() if video in paths and identity(paths[video]) != file)


def files(prefills: Iterable[Prefill]) -> dict[str, Any]:
    """Video id -> size and hash of the file that was read."""
    return {prefill.video: prefill.file for prefill in prefills if prefill.file}


REVISIONS = ".revisions.json"
"""A file in a fetched folder: the commit of each hub repository that the data came from."""


def revisions(root: Path) -> dict[str, str]:
    """Hub repository -> commit, of the data that `python -m evalkit.fetch` put below `root`. Empty for other data."""
    try:
        commits = json.loads((root / REVISIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not fetched by evalkit, or not completely
        return {}
    return {str(repo): str(commit) for repo, commit in commits.items()} if isinstance(commits, dict) else {}


def data(data: DataSet, items: Sequence[VideoQuestions]) -> dict[str, Any]:
    """The folder of the data, the commits it was fetched from, and hashes of its questions and of the ids and sizes of
    its videos."""
    questions, videos = sha256(), sha256()
    for item in items:
        size = item.video.path.stat().st_size if item.video.path.exists() else -1
        videos.update(f"{item.video.id}\0{size}\n".encode())
        for q in item.questions:
            questions.update(repr((q.id, q.text, q.options, q.gold)).encode())
    return {
        "root": str(data.root),
        "source": data.source,
        "revisions": revisions(data.root),
        "questions": sum(len(item.questions) for item in items),
        "videos": len(items),
        "questions_sha256": questions.hexdigest(),
        "videos_sha256": videos.hexdigest(),
    }
