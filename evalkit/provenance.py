"""What a number rests on: code, packages, weights, data, decoder, hardware. Written to manifest.json; no torch."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from evalkit import PACKAGE_ROOT, __version__
from evalkit.types import Clip

_PACKAGES = ("torch", "transformers", "tokenizers", "av", "decord", "pillow", "numpy", "datasets", "flash-attn")
_ANSWERS = ("evaluate.py", "task.py", "model.py", "types.py", "video", "scoring", "tasks", "models")
"""The code that can change an answer or a grade; pages and trackers cannot."""


def code() -> dict[str, Any]:
    """Version, git revision where there is one, and a hash of the source that makes answers and grades."""
    here = Path(__file__).resolve().parent
    places = [base / name for name in _ANSWERS for base in (here, PACKAGE_ROOT) if (base / name).exists()]
    files = sorted({file for place in places for file in _sources(place)})
    digest = sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return {"evalkit": __version__, **_git(PACKAGE_ROOT), "source_sha256": digest.hexdigest()}


def _sources(place: Path) -> Iterable[Path]:
    return [place] if place.is_file() else place.rglob("*.py")


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
    """Host only; the GPU is named by the worker that uses it."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def data(clips: Sequence[Clip]) -> dict[str, Any]:
    """Fingerprint of the questions as they were read, and of the videos' names and sizes."""
    questions, videos = sha256(), sha256()
    for clip in clips:
        size = clip.video.path.stat().st_size if clip.video.path.exists() else -1
        videos.update(f"{clip.video.id}\0{size}\n".encode())
        for q in clip.questions:
            questions.update(repr((q.id, q.text, q.options, q.gold)).encode())
    return {
        "questions": sum(len(clip.questions) for clip in clips),
        "videos": len(clips),
        "questions_sha256": questions.hexdigest(),
        "videos_sha256": videos.hexdigest(),
    }
