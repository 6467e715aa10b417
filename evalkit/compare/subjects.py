"""The settings that differ between runs, by subject (frames, checkpoint, ...), and a warning if more than one does.

Read from the manifests: the settings behind the run key, and the versions of code, weights, data and packages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.flat import flatten, varying
from evalkit.report.entries import Entry
from evalkit.report.naming import plain

NOTED = ("packages", "hardware", "limit")
"""Subjects that are listed without a warning. Packages and hardware hardly ever change an answer; runs under different
limits are compared on the questions that they share."""

_CHECKPOINT = ("model.checkpoint", "model.revision", "model.dtype")
_IGNORED = (
    "model.name",
    "task.name",
    "weights.files",
    "data.root",
    "data.source",
    "code.dirty",
    "code.revision",
    "decoder.backend",
)
_NAMES = {
    "frames": "the frames",
    "checkpoint": "the checkpoint",
    "protocol": "the protocol",
    "task": "the task's settings",
    "decoding": "token generation",
    "video": "video decoding",
    "code": "the code",
    "data": "the data",
    "model": "the model",
    "replies": "whose replies were graded",
}


@dataclass(frozen=True)
class Differing:
    """A setting that differs between the runs, with its value in each run."""

    subject: str
    key: str
    values: tuple[str, ...]


def differing(entries: Sequence[Entry]) -> list[Differing]:
    """The settings that differ, in the order of the manifests."""
    everything = [_facts(entry) for entry in entries]
    other_models = len({facts.get("model.id") for facts in everything}) > 1
    limited = len({facts.get("limit") for facts in everything}) > 1
    found = []
    for key in varying(everything):
        if key not in _IGNORED and any(facts.get(key) is not None for facts in everything):
            values = tuple(plain(facts.get(key)) for facts in everything)
            subject = _subject(key, everything, other_models)
            found.append(Differing("limit" if subject == "data" and limited else subject, key, values))
    return found


def warning(found: Sequence[Differing]) -> str | None:
    """One sentence if more than one subject differs, else None."""
    subjects = [s for s in dict.fromkeys(d.subject for d in found) if s not in NOTED]
    if len(subjects) < 2:
        return None
    names = [_NAMES.get(subject, subject) for subject in subjects]
    return (
        f"more than one thing differs: {', '.join(names[:-1])} and {names[-1]}. "
        "A difference in scores cannot be attributed to any one of them."
    )


def _facts(entry: Entry) -> dict[str, Any]:
    """The settings and versions of a run, by dotted key."""
    manifest: Mapping[str, Any] = entry.manifest
    parts = {
        name: manifest[name]
        for name in ("code", "weights", "data", "packages", "decoder", "hardware")
        if manifest.get(name)
    }
    facts = flatten({**entry.identity, **parts, "limit": entry.limit})
    facts.setdefault("model.id", entry.summary["model"])
    facts.setdefault("task.protocol", entry.protocol)
    return {key: _short(value) for key, value in facts.items()}


def _subject(key: str, everything: Sequence[Mapping[str, Any]], other_models: bool) -> str:
    first, _, rest = key.partition(".")
    if first == "model":
        section = rest.partition(".")[0]
        if section == "frames" and all(key in facts for facts in everything):
            return "frames"
        if other_models:
            return "model"
        return "checkpoint" if key in _CHECKPOINT else section
    if first in ("weights", "imported"):
        return "model" if other_models else "checkpoint" if first == "weights" else "replies"
    if key == "task.protocol":
        return "protocol"
    if key == "decoder.ffmpeg":
        return "packages"
    if first == "source":
        return "data"
    return "replies" if first == "rescored_from" else first


def _short(value: Any) -> Any:
    """A hash is cut to its first 12 digits."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 and value.isalnum() else value
