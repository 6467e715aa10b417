"""Checks of the data of a benchmark: its questions, and each of its videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import DataError, VideoError
from evalkit.tables import BadRows
from evalkit.task import DataSet, Task
from evalkit.types import Composite, FramePlan, FrameRequest, FrameStream, Video, VideoQuestions
from evalkit.video.resize import FixedSize

_ENDS = FrameRequest("uniform", 3, resize=FixedSize(32, 32))
"""First, middle and last frame, small."""
_TOLERANCE_S, _TOLERANCE_SHARE = 2.0, 0.02
"""Annotated durations are rounded, and videos are cut at key frames; a larger difference means another video."""


@dataclass(frozen=True)
class Finding:
    """One defect of the data. `kind`: that of a VideoError; duration (other than annotated), part (outside the video),
    needle (its picture cannot be read), decoder (only one can read the video); row (of a table, that cannot be read),
    questions (too few, or none can be read), videos (too few). `questions`: how many are concerned. `serious`: the
    benchmark cannot be run completely."""

    kind: str
    video: str
    path: str
    message: str
    questions: int = 0
    serious: bool = True


def check_items(task: Task, data: DataSet) -> tuple[list[VideoQuestions], list[Finding]]:
    """The videos whose rows can be read, and what is wrong with the questions: each row that cannot be read, counts,
    and what the task itself checks."""
    findings: list[Finding] = []
    try:
        try:
            list(task.load(data.root))
        except BadRows as error:
            findings = [Finding("row", "", str(data.root), problem) for problem in error.problems]
        items = task.incomplete().read(data)
    except BadRows:
        return [], findings  # no row can be read
    except DataError as error:
        return [], [*findings, Finding("questions", "", str(data.root), str(error))]
    findings += _counts(task, data, items)
    missing = any(not item.video.path.exists() for item in items)  # reported one by one
    if not findings and not missing:
        try:
            task.read(data)
        except DataError as error:
            findings.append(Finding("questions", "", str(data.root), str(error)))
    return items, findings


def _counts(task: Task, data: DataSet, items: Sequence[VideoQuestions]) -> Iterator[Finding]:
    """Too few or too many questions or videos, unless allow_missing is set."""
    if data.miniature or task.allow_missing:
        return
    split, root = task.splits[task.split], str(data.root)
    questions = sum(len(item.questions) for item in items)
    if split.questions and questions not in split.questions:
        wanted = " or ".join(map(str, split.questions))
        yield Finding("questions", "", root, f"{questions} questions, a complete copy has {wanted}", questions)
    ways = (item.video.path for item in items), (item.video.id for item in items), (item.cluster for item in items)
    videos = {len(items), *(len(set(way)) for way in ways)}  # published counts are of files, of parts, or of names
    if split.videos and not videos & {*split.videos}:
        wanted = " or ".join(map(str, split.videos))
        yield Finding("videos", "", root, f"{len(items)} videos are asked about, a complete copy has {wanted}")


def check_videos(
    items: Sequence[VideoQuestions], workers: int, advance: Callable[[], None] = lambda: None
) -> list[Finding]:
    """Read first, middle and last frame of each video, in `workers` processes. `advance` is called after each."""
    from evalkit.video.reader import FrameReader
    from evalkit.video.settings import VideoSettings

    by_path: dict[Path, list[VideoQuestions]] = {}
    for item in items:
        by_path.setdefault(item.video.path, []).append(item)
    videos = [Video(parts[0].video.id, path, fps=parts[0].video.fps) for path, parts in by_path.items()]
    findings = []
    with FrameReader(VideoSettings(workers=workers)) as reader:
        for video, opened in zip(videos, reader.open_ahead((v, _ENDS) for v in videos), strict=True):
            parts = by_path[video.path]
            asked = sum(len(item.questions) for item in parts)
            findings += [
                Finding(kind, video.id, str(video.path), message, asked, kind != "decoder")
                for kind, message in _examine(opened, parts)
            ]
            advance()
    return findings


def _examine(opened: FrameStream | VideoError, items: Sequence[VideoQuestions]) -> Iterator[tuple[str, str]]:
    """(kind, message) of each defect of one file, for the videos that are it or parts of it."""
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
    plan = opened.plan
    length_s = plan.frame_count / plan.native_fps
    whole = [item.video.duration_s for item in items if item.video.start_s is None and item.video.composite is None]
    for annotated_s in dict.fromkeys(s for s in whole if s):
        if _apart(length_s, annotated_s):
            yield "duration", f"is {length_s:.1f} s long, annotated are {annotated_s:.1f} s"
    for start_s, end_s in dict.fromkeys((item.video.start_s, item.video.end_s) for item in items):
        if start_s is not None and start_s >= length_s:
            yield "part", f"is {length_s:.1f} s long, a question is about what begins at {start_s:.1f} s"
        elif end_s is not None and end_s > length_s and _apart(length_s, end_s):
            yield "part", f"is {length_s:.1f} s long, a question is about what ends at {end_s:.1f} s"
    yield from _needles(plan, [item.video.composite for item in items if item.video.composite is not None])


def _apart(length_s: float, annotated_s: float) -> bool:
    return abs(length_s - annotated_s) > max(_TOLERANCE_S, _TOLERANCE_SHARE * annotated_s)


def _needles(plan: FramePlan, composites: Sequence[Composite]) -> Iterator[tuple[str, str]]:
    """(kind, message) for a haystack with too few frames for the grid, and for pictures that cannot be read."""
    from evalkit.video.pictures import read_picture
    from evalkit.video.sampling import sample

    short: Counter[int] = Counter()
    for rule, frames in dict.fromkeys((composite.rule, composite.frames) for composite in composites):
        found = len(sample(FrameRequest(rule, frames), plan.frame_count, plan.native_fps).indices)
        if found < frames:
            short[frames] = found
    if short:
        most = max(short)
        yield "too_short", f"has {short[most]} frames for the haystack, {most} are wanted: use a longer video"
    for image in dict.fromkeys(composite.image for composite in composites if composite.image is not None):
        try:
            read_picture(image)
        except VideoError as error:
            yield "needle", str(error)
