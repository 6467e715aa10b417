"""The command: runs the checks, prints their findings and writes them to a file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.doctor.checks import Finding, check_items, check_videos
from evalkit.errors import ConfigError, DataError
from evalkit.runs import write_atomically
from evalkit.task import DataSet, Task
from evalkit.types import VideoQuestions

_SHOWN = 10


def doctor(arguments: Arguments) -> int:
    report, workers = arguments.setting("report"), arguments.setting("video.workers", "0") or ""
    if arguments.names:
        raise ConfigError(f'"{arguments.names[0]}" is no setting: python -m evalkit.doctor task=<task> [key=value ...]')
    if not workers.isdigit():
        raise ConfigError(f"video.workers={workers}: give a number of processes; 0 means all cores.")
    config = arguments.compose()
    task: Task = instantiate(config.task, "task", list(config.plugins))
    data: DataSet = instantiate(config.source, "source", list(config.plugins)).open(task)
    path = _writable(Path(report or f"doctor-{task.name}-{task.split}.json"))
    items, findings = check_items(task, data)
    with _progress(len({item.video.path for item in items})) as advance:
        findings += check_videos(items, int(workers) or _cores(), advance)
    _write(path, task, data, items, findings)
    _tell(task, data, items, findings, path)
    return 1 if any(finding.serious for finding in findings) else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _writable(path: Path) -> Path:
    """The report's file, checked before the videos are decoded, which can take hours."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise DataError(f"the report cannot be written to {path}: name another file with report=<file>.")
    return path


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal; elsewhere a line with the time every ten seconds."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
            bar_task = bar.add_task("videos", total=total)
            yield lambda: bar.advance(bar_task)
        return
    done, said = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, said
        done += 1
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} checked {done} of {total} videos", file=sys.stderr, flush=True)

    yield advance


def _write(path: Path, task: Task, data: DataSet, items: Sequence[VideoQuestions], findings: Sequence[Finding]) -> None:
    content = {
        "task": task.name,
        "benchmark": task.benchmark,
        "split": task.split,
        "root": str(data.root),
        "videos": len({item.video.path for item in items}),
        "questions": sum(len(item.questions) for item in items),
        "whole": not any(finding.serious for finding in findings),
        "kinds": Counter(finding.kind for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
    try:
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(
            f"the report cannot be written to {path} ({error.strerror}): name another with report=."
        ) from None


def _tell(task: Task, data: DataSet, items: Sequence[VideoQuestions], findings: Sequence[Finding], path: Path) -> None:
    videos, questions = len({item.video.path for item in items}), sum(len(item.questions) for item in items)
    print(f"{task.benchmark} ({task.split}) at {data.root}: {videos} videos, {questions} questions")
    for kind, count in Counter(finding.kind for finding in findings).most_common():
        print(f"\n{kind}: {count}")
        for finding in [f for f in findings if f.kind == kind][:_SHOWN]:
            print(f"  {finding.video}: {finding.message}" if finding.video else f"  {finding.message}")
        if count > _SHOWN:
            print(f"  ... and {count - _SHOWN} more")
    if findings:
        print(f"\n{len(findings)} finding{'s' if len(findings) > 1 else ''}, in full: {path}")
    serious = [finding for finding in findings if finding.serious]
    if not serious:
        print("complete: every video opens and decodes at its start, middle and end")
    elif lost := sum({finding.path: finding.questions for finding in serious if finding.video}.values()):
        print(f"{lost} of {questions} questions are about videos with something wrong")
