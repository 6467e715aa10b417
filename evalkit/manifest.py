"""manifest.json: what a run rests on, and whether it may be continued with what is here now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import RunError
from evalkit.runs import write_atomically


def write(run: Path, now: Mapping[str, Any], begun: bool, continuing: bool, force: bool) -> None:
    """Write the manifest of a run that is begun, or goes on with the same code, weights and questions.

    Raises RunError where there is something left to ask (`continuing`) of a run that was begun with others: answers of
    both would be mixed. `force` accepts that; the manifest then keeps what was before in its `history`.
    """
    path = run / "manifest.json"
    history: list[Any] = []
    if begun and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        history = before.pop("history", [])
        changed = _changed(before, now)
        if changed and not continuing:
            return
        if changed and not force:
            raise RunError(
                f"{run} was begun with other {' and '.join(changed)} than are here now. Answers of both would be mixed: "
                "add resume=force to accept that (the manifest keeps both), or name another folder with results=."
            )
        if changed:
            history.append(before)
    write_atomically(path, json.dumps({**now, "history": history}, indent=1, ensure_ascii=False, default=str) + "\n")


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
