"""Is a benchmark there, whole and decodable?

    python -m evalkit.doctor task=mlvu [source=local source.root=FOLDER]

Checks counts and columns, and that every video exists, opens, decodes at its start, middle and end, and is as long as
annotated. Lists what is wrong by kind, writes it to FILE with report=FILE (default: doctor-<task>-<split>.json), and
exits 1. Settings: task=, task.*, source=, source.*, video.workers=<processes> (default: all cores), report=FILE.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from evalkit.config import instantiate
from evalkit.errors import ConfigError, DataError, VideoError
from evalkit.runs import write_atomically
from evalkit.task import Task
from evalkit.tools import Arguments, main
from evalkit.types import Clip, FrameRequest, FrameStream, Video

_ENDS = FrameRequest("uniform", 3, size=(32, 32))
"""First, middle and last frame, small."""
_TOLERANCE_S, _TOLERANCE_SHARE = 2.0, 0.02
"""Annotated durations are rounded, and cut at key frames; more than this is another video."""


@dataclass(frozen=True)
class Finding:
    """Something wrong. `kind` as in VideoError, or duration | decoder | questions | missing."""

    kind: str
    video: str
    path: str
    message: str
    questions: int


def doctor(arguments: Arguments) -> int:
    report, workers = arguments.setting("report"), arguments.setting("video.workers", "0")
    if arguments.names:
        raise ConfigError(f'"{arguments.names[0]}" is no setting: python -m evalkit.doctor task=<task> [key=value ...]')
    if not (workers or "").isdigit():
        raise ConfigError(f"video.workers={workers}: give a number of processes; 0 means all cores.")
    config = arguments.compose()
    task: Task = instantiate(config.task, "task", list(config.plugins))
    instantiate(config.source, "source", list(config.plugins)).open(task)
    findings = [*_questions(task)]
    task.allow_missing = True
    clips = list(task.clips())
    findings += check_videos(clips, int(workers or 0) or os.cpu_count() or 1)
    path = Path(report or f"doctor-{task.name}-{task.split}.json")
    _write(path, task, clips, findings)
    _tell(task, clips, findings, path)
    return 1 if findings else 0


def _questions(task: Task) -> Iterator[Finding]:
    """What the run itself would object to before its first question."""
    try:
        list(task.clips())
    except DataError as error:
        if "videos are missing" not in str(error):  # those are listed one by one
            yield Finding("questions", "", str(task.root), str(error), 0)


def check_videos(clips: Sequence[Clip], workers: int) -> list[Finding]:
    """Read first, middle and last frame of each video, in `workers` processes."""
    from evalkit.video.reader import FrameReader
    from evalkit.video.settings import VideoSettings

    by_path: dict[Path, list[Clip]] = {}
    for clip in clips:
        by_path.setdefault(clip.video.path, []).append(clip)
    videos = [Video(parts[0].video.id, path, fps=parts[0].video.fps) for path, parts in by_path.items()]
    findings = []
    with FrameReader(VideoSettings(workers=workers)) as reader, _progress(len(videos)) as advance:
        for video, opened in zip(videos, reader.open_ahead((v, _ENDS) for v in videos), strict=True):
            parts = by_path[video.path]
            asked = sum(len(clip.questions) for clip in parts)
            for kind, message in _examine(opened, parts[0].video.duration_s):
                findings.append(Finding(kind, video.id, str(video.path), message, asked))
            advance()
    return findings


def _examine(opened: FrameStream | VideoError, annotated_s: float | None) -> Iterator[tuple[str, str]]:
    if isinstance(opened, VideoError):
        yield opened.kind, str(opened)
        return
    try:
        for _ in opened.batches(3):
            pass
    except VideoError as error:
        yield error.kind, str(error)
        return
    if "failed" in opened.decoder:
        yield "decoder", f"only one decoder can read it: {opened.decoder}"
    length = opened.plan.frame_count / opened.plan.native_fps
    if annotated_s and abs(length - annotated_s) > max(_TOLERANCE_S, _TOLERANCE_SHARE * annotated_s):
        yield "duration", f"is {length:.1f} s long, annotated are {annotated_s:.1f} s"


@contextmanager
def _progress(total: int):  # type: ignore[no-untyped-def]
    """A bar on a terminal, a dated line now and then elsewhere."""
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
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} checked {done} of {total} videos", file=sys.stderr)

    yield advance


def _write(path: Path, task: Task, clips: Sequence[Clip], findings: Sequence[Finding]) -> None:
    content = {
        "task": task.name,
        "benchmark": task.benchmark,
        "split": task.split,
        "root": str(task.root),
        "videos": len({clip.video.path for clip in clips}),
        "questions": sum(len(clip.questions) for clip in clips),
        "findings": [asdict(finding) for finding in findings],
    }
    try:
        write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(
            f"the report cannot be written to {path} ({error.strerror}): name another with report=."
        ) from None


def _tell(task: Task, clips: Sequence[Clip], findings: Sequence[Finding], path: Path) -> None:
    videos, questions = len({clip.video.path for clip in clips}), sum(len(clip.questions) for clip in clips)
    print(f"{task.benchmark} ({task.split}) at {task.root}: {videos} videos, {questions} questions")
    if not findings:
        print("all there: every video opens and decodes at its start, middle and end")
        return
    for kind, count in Counter(finding.kind for finding in findings).most_common():
        print(f"\n{kind}: {count}")
        for finding in [f for f in findings if f.kind == kind][:10]:
            print(f"  {finding.video}: {finding.message}" if finding.video else f"  {finding.message}")
        if count > 10:
            print(f"  ... and {count - 10} more")
    print(f"\n{len(findings)} findings, in full: {path}")


if __name__ == "__main__":
    main(doctor, __doc__ or "")
