"""What a number rests on: code, packages, weights, data, decoder, hardware. Written to manifest.json; no torch."""

from __future__ import annotations

import inspect
import json
import os
import platform
import subprocess
from abc import ABC
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from evalkit import PACKAGE_ROOT, __version__
from evalkit.types import Record, VideoQuestions
from evalkit.video.identity import identity

_PACKAGES = ("torch", "transformers", "tokenizers", "av", "decord", "pillow", "numpy", "datasets", "flash-attn")
_CORE = ("evaluate.py", "task.py", "model.py", "types.py", "video", "scoring")
"""The part of evalkit that every answer and grade passes through; pages and trackers cannot change one."""


def code(task: object, model: object) -> dict[str, Any]:
    """Version, git revision where there is one, and a hash of the source that makes this task's and model's answers."""
    here = Path(__file__).resolve().parent
    places = [*(here / name for name in _CORE), *_source_of(task), *_source_of(model)]
    files = sorted({file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))})
    digest = sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return {"evalkit": __version__, **_git(PACKAGE_ROOT), "source_sha256": digest.hexdigest()}


def _source_of(settings: object) -> list[Path]:
    """The files of an object's classes; for a model family that is a folder, all of evalkit's models, since families
    share code."""
    files = [Path(inspect.getfile(cls)).resolve() for cls in type(settings).__mro__ if cls not in (object, ABC)]
    models = (PACKAGE_ROOT / "models").resolve()
    return [models if models in file.parents else file for file in files]


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
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine of this process; a run's workers may be on others, and say so themselves."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
    }


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU that this process may use, by its own tool: no torch."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):  # no such tool, or no GPU behind it
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.count(",") == 4]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [name.strip() for name in visible.split(",") if name.strip()]
        rows = [row for row in rows if row[0] in named or any(row[1].startswith(name) for name in named)]
    return [f"{name}, {memory}, driver {driver}" for _, _, name, memory, driver in rows]


def decoder(backend: str) -> dict[str, str]:
    """What reads videos first; where the other backend had to, the record says so."""
    import av

    return {"backend": backend, "ffmpeg": str(av.ffmpeg_version_info)}


def exchanged(records: Iterable[Record], items: Sequence[VideoQuestions]) -> list[str]:
    """Names of the videos whose answers were got from another file than is there now."""
    paths = {item.video.id: item.video.path for item in items}
    read = files(records)
    return sorted(video for video, file in read.items() if video in paths and identity(paths[video]) != file)


def files(records: Iterable[Record]) -> dict[str, Any]:
    """Size and hash of each video as far as read, by its name."""
    return {r.video: r.sampling["file"] for r in records if r.sampling and r.sampling.get("file")}


REVISIONS = ".revisions.json"
"""In a fetched folder: the commit of each hub repository that it came from."""


def revisions(root: Path) -> dict[str, str]:
    """Hub repository -> commit of what `python -m evalkit.fetch` put below `root`; nothing where it did not."""
    try:
        known = json.loads((root / REVISIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # another's copy, or one that is being fetched
        return {}
    return {str(repo): str(commit) for repo, commit in known.items()} if isinstance(known, dict) else {}


def data(items: Sequence[VideoQuestions]) -> dict[str, Any]:
    """Fingerprint of the questions as they were read, and of the videos' names and sizes."""
    questions, videos = sha256(), sha256()
    for item in items:
        size = item.video.path.stat().st_size if item.video.path.exists() else -1
        videos.update(f"{item.video.id}\0{size}\n".encode())
        for q in item.questions:
            questions.update(repr((q.id, q.text, q.options, q.gold)).encode())
    return {
        "questions": sum(len(item.questions) for item in items),
        "videos": len(items),
        "questions_sha256": questions.hexdigest(),
        "videos_sha256": videos.hexdigest(),
    }
