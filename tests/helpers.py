"""Running evalkit in tests, in this process or as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "tests" / "conf"
VOLATILE = ("seconds", "started", "worker", "peak_memory", "ttft")


def toy_arguments(data: Path, results: Path, *more: str) -> list[str]:
    named = [f"source.root={data}", f"results={results}", "tracker=csv", "plugins=[tests]"]
    return ["task=toy", "model=constant", "source=local", *named, *more]


def run_here(arguments: list[str]) -> int:
    """One run in this process; its exit code."""
    model = next(a.partition("=")[2] for a in arguments if a.startswith("model="))
    return job.run(job.plan(compose(arguments, [CONFIGS, CONF]), model))


def command(*arguments: str, module: str = "evalkit") -> list[str]:
    return [sys.executable, "-m", module, "--config-dir", str(CONF), *arguments]


def run_command(*arguments: str, module: str = "evalkit", **more) -> subprocess.CompletedProcess[str]:
    changes = more.pop("env", {})  # None takes a variable away
    environment = {k: v for k, v in {**os.environ, **changes}.items() if v is not None}
    return subprocess.run(
        command(*arguments, module=module),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=120,
        **more,
    )


def only_run(results: Path) -> Path:
    (found,) = results.glob("*/*/*/records.jsonl")
    return found.parent


def stable(records: Path) -> list[dict]:
    """Records without what may differ between two runs of the same command: times and places."""
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").split("\n") if line]
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]
