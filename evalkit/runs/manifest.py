"""manifest.json: what a run is based on, and whether it may be continued with the present code, weights and data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import RunError

from .files import write_atomically
from .lines import FORMAT

GATHERED = ("files", "workers")
"""Entries that are known only after videos were read: their files, and the machines that read them."""


def write(
    run: Path, now: Mapping[str, Any], continuing: bool, force: bool, replaced: Mapping[str, Sequence[str]]
) -> list[str]:
    """Write the manifest of a run that begins, or goes on with the same code, weights, questions and videos.

    Where nothing is left to ask (not `continuing`), the manifest of a finished run stays as it is: it names what made
    the answers. Raises RunError where something is left to ask of a run that began with other code, weights or data,
    because answers of both would be mixed; `force` accepts that, and keeps the former manifest in `history`.
    `replaced`: by kind (questions, videos) the ids of those that are not the same as when they were answered. Returns
    what differs.
    """
    path = run / "manifest.json"
    history: list[Any] = []
    gathered: dict[str, Any] = {}
    changed: list[str] = []
    if path.exists():
        before = _read(path)
        changed = [*_changed(before, now), *_named(replaced)]
        if not continuing:
            return changed
        history = before.pop("history", [])
        gathered = {name: before[name] for name in GATHERED if name in before}
        if changed and not force:
            raise RunError(
                f"{run} was begun with other {' and '.join(changed)} than are here now. Name another results=<folder>, "
                "or add resume=force to go on with what is here now: changed questions are asked again, other answers "
                "stay, and the manifest keeps both."
            )
        if changed:
            history.append(before)
    save(run, {**now, **gathered, "history": history})
    return changed


def complete(run: Path, gathered: Mapping[str, Mapping[str, Any]]) -> None:
    """Add entries that became known during the run."""
    known = _read(run / "manifest.json")
    history = known.pop("history", [])
    known |= {name: {**known.get(name, {}), **values} for name, values in gathered.items()}
    save(run, {**known, "history": history})


def save(run: Path, manifest: Mapping[str, Any]) -> None:
    """Raises OSError."""
    text = json.dumps({"format": FORMAT, **manifest}, indent=1, ensure_ascii=False, default=str) + "\n"
    write_atomically(run / "manifest.json", text)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        return content
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged ({error}), so evalkit cannot check whether this run may be continued. Restore it, "
            "remove it to continue with the present code and data, or name another results=<folder>."
        ) from None


def _named(exchanged: Mapping[str, Sequence[str]]) -> list[str]:
    """`questions (q1, q2, q3, ...)` for each kind that has any."""
    return [f"{kind} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})" for kind, ids in exchanged.items() if ids]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which of code and weights differ. Weights of None are not known, and count as the same."""
    changed = []
    if (before.get("code") or {}).get("source_sha256") != now["code"]["source_sha256"]:
        changed.append("code")
    if now["weights"] is not None and before.get("weights") != json.loads(json.dumps(now["weights"], default=str)):
        changed.append("weights")
    return changed
