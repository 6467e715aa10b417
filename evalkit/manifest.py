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
    run: Path, now: Mapping[str, Any], begun: bool, continuing: bool, force: bool, exchanged: Sequence[str] = ()
) -> None:
    """Write the manifest of a run that is begun, or goes on with the same code, weights, questions and videos.

    Raises RunError where there is something left to ask (`continuing`) of a run that was begun with others: answers of
    both would be mixed. `force` accepts that; the manifest then keeps what was before in its `history`. `exchanged`
    names the videos that are other files than those already answered about.
    """
    path = run / "manifest.json"
    history: list[Any] = []
    gathered: dict[str, Any] = {}
    if begun and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        history = before.pop("history", [])
        gathered = {name: before[name] for name in GATHERED if name in before}
        changed = _changed(before, now)
        if exchanged:
            changed.append(f"videos ({', '.join(exchanged[:3])}{', ...' if len(exchanged) > 3 else ''})")
        if changed and not continuing:
            return
        if changed and not force:
            raise RunError(
                f"{run} was begun with other {' and '.join(changed)} than are here now. Answers of both would be "
                "mixed: add resume=force to accept that (the manifest keeps both), or name another results=<folder>."
            )
        if changed:
            history.append(before)
    _save(path, {**now, **gathered, "history": history})


def complete(run: Path, **gathered: Mapping[str, Any]) -> None:
    """Add what was gathered since the run was begun or continued."""
    path = run / "manifest.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    history = known.pop("history", [])
    known |= {name: {**known.get(name, {}), **values} for name, values in gathered.items()}
    _save(path, {**known, "history": history})


def _save(path: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n")


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which of code, weights and questions differ. A run under another limit reads other questions of the same data."""
    changed = []
    if before["code"]["source_sha256"] != now["code"]["source_sha256"]:
        changed.append("code")
    if before["weights"] != json.loads(json.dumps(now["weights"], default=str)):
        changed.append("weights")
    same = before["limit"] == now["limit"]
    if same and before["data"]["questions_sha256"] != now["data"]["questions_sha256"]:
        changed.append("questions")
    return changed
