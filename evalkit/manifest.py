"""manifest.json: what a run rests on, and whether it may be continued with what is here now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import RunError
from evalkit.runs import write_atomically

GATHERED = ("files", "workers")
"""What is known only once videos were read: their files, and the machines that read them."""


def write(
    run: Path, now: Mapping[str, Any], continuing: bool, force: bool, exchanged: Mapping[str, Sequence[str]]
) -> list[str]:
    """Write the manifest of a run that is begun, or goes on with the same code, weights, questions and videos.

    Raises RunError where there is something left to ask (`continuing`) of a run that was begun with others: answers of
    both would be mixed. `force` accepts that; the manifest then keeps what was before in its `history`. `exchanged`:
    the ids of the questions, and of the videos, that are others than those already answered. Returns what differs.
    """
    path = run / "manifest.json"
    history: list[Any] = []
    gathered: dict[str, Any] = {}
    changed: list[str] = []
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        history = before.pop("history", [])
        gathered = {name: before[name] for name in GATHERED if name in before}
        changed = [*_changed(before, now), *_named(exchanged)]
        if changed and not continuing:
            return changed
        if changed and not force:
            raise RunError(
                f"{run} was begun with other {' and '.join(changed)} than are here now. Name another results=<folder>, "
                "or add resume=force to go on with what is here now: changed questions are asked again, other answers "
                "stay, and the manifest keeps both."
            )
        if changed:
            history.append(before)
    _save(path, {**now, **gathered, "history": history})
    return changed


def complete(run: Path, **gathered: Mapping[str, Any]) -> None:
    """Add what was gathered since the run was begun or continued."""
    path = run / "manifest.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    history = known.pop("history", [])
    known |= {name: {**known.get(name, {}), **values} for name, values in gathered.items()}
    _save(path, {**known, "history": history})


def _save(path: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n")


def _named(exchanged: Mapping[str, Sequence[str]]) -> list[str]:
    """`questions (q1, q2, q3, ...)` for each kind that has any."""
    return [f"{kind} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})" for kind, ids in exchanged.items() if ids]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which of code and weights differ."""
    changed = []
    if before["code"]["source_sha256"] != now["code"]["source_sha256"]:
        changed.append("code")
    if before["weights"] != json.loads(json.dumps(now["weights"], default=str)):
        changed.append("weights")
    return changed
