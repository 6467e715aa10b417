"""Runs evalkit in tests: in this process, or as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.runs.lines import read_lines, read_prefills
from evalkit.types import Prefill, Record

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "tests" / "conf"
VOLATILE = ("seconds", "started", "worker", "host_memory_bytes", "peak_memory_bytes", "ttft")


def toy_arguments(data: Path, results: Path, *more: str) -> list[str]:
    named = [f"source.root={data}", f"results={results}", "tracker=csv", "plugins=[tests]"]
    return ["task=toy", "model=scripted", "source=local", *named, *more]


def run_here(arguments: list[str]) -> int:
    """Carry out one run in this process. Returns its exit code."""
    return job.run(job.plan(compose(arguments, [CONFIGS, CONF])))


def command(*arguments: str, module: str = "evalkit") -> list[str]:
    return [sys.executable, "-m", module, "--config-dir", str(CONF), *arguments]


def run_command(*arguments: str, module: str = "evalkit", **more) -> subprocess.CompletedProcess[str]:
    changes = more.pop("env", {})  # None removes a variable
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
    """The records as dictionaries, each with its prefill as `sampling`, without times and places, which differ between
    two runs of the same command."""
    prefills = {prefill.id: _stable(prefill) for prefill in read_prefills(records.parent / "prefills.jsonl")[0]}
    return [{**_stable(record), "sampling": prefills.get(record.prefill)} for record in read_lines(records)[0]]


def _stable(line: Record | Prefill) -> dict:
    return {k: v for k, v in asdict(line).items() if k not in VOLATILE}
