"""Which frames of a video a model reads: the published sampling rules, each under its name.

A rule gets a window of `count` frames at `native_fps` and returns ascending indices into it. `native_fps` is the
container's *average* frame rate, decord's `get_avg_fps()`: the rules were published on top of it. With variable frame
rates `index / native_fps` is the rule's time of a frame, not its presentation time.

A rule is named in `FrameRequest.rule`, either by its name in `RULES` or by the import path of a function with the same
signature: `package.module.function` or `package.module:function`. Only packages passed to `trust` are imported.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from evalkit.errors import ConfigError, VideoError, suggest
from evalkit.types import FramePlan, FrameRequest

from .resize import KINDS

Indices = Sequence[int]


@dataclass(frozen=True)
class Rule:
    """A sampling rule and what is special about it. Calling it calls `indices`.

    `indices(request, count, native_fps)`: the indices that are read, ascending, of a window of `count` frames.
    `unlimited`: `request.max_frames` may be 0, which means no limit.
    `needs_fps`: `request.fps` must be above 0.
    `time_digits`: decimal places that the rule rounds its times to; None: not rounded.
    """

    indices: Callable[[FrameRequest, int, float], Indices]
    unlimited: bool = False
    needs_fps: bool = False
    time_digits: int | None = None

    def __call__(self, request: FrameRequest, count: int, native_fps: float) -> Indices:
        return self.indices(request, count, native_fps)


def linspace(count: int, n: int) -> Indices:
    """`n` indices from the first to the last frame, both included; never more than there are."""
    return np.linspace(0, count - 1, min(n, count)).astype(int).tolist()


def at_most(indices: Indices, count: int, limit: int) -> Indices:
    """`indices`, or `limit` spread over the whole window when there are more; a limit of 0 is none."""
    return linspace(count, limit) if 0 < limit < len(indices) else indices


def whole_step(native_fps: float, fps: float) -> int:
    """Frames between two samples, `round(native_fps / fps)` with halves to even."""
    step = round(native_fps / fps)
    if step < 1:
        raise VideoError(
            f"has only {native_fps:g} frames a second, too few to take {fps:g} a second in whole steps; "
            "use another sampling rule or a lower max_fps",
            kind="too_short",
        )
    return step


def uniform(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """`max_frames` from the first to the last frame, both included (lmms-eval, LLaVA-Video)."""
    return linspace(count, request.max_frames)


def uniform_inside(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """`max_frames` at equal distances inside, both ends excluded (VLMEvalKit, `nframe`)."""
    n = min(request.max_frames, count)
    step = count / (n + 1)
    return [int(i * step) for i in range(1, n + 1)]


def at_fps(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """`fps` frames a second at exact, fractional steps (VLMEvalKit, `fps`), each frame once where the video has fewer;
    past `max_frames`, that many evenly."""
    if request.fps >= native_fps:
        return at_most(range(count), count, request.max_frames)
    step = native_fps / request.fps
    return at_most([int(i * step) for i in range(int(count / native_fps * request.fps))], count, request.max_frames)


def longvideobench(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """One frame a second and at most `max_frames`, at one whole stride from frame 0 (LongVideoBench's own loader)."""
    n = min(request.max_frames, int(count / native_fps), count)
    stride = count // n if n else 1
    return [stride * i for i in range(n)]


def video_xl_2(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """About `fps` frames a second; more, up to `max_fps`, where the video is short; past `max_frames`, that many
    evenly (Video-XL-2, evaluation code). `max_frames` 0: no limit. `fps` 0: every frame."""
    step = whole_step(native_fps, request.fps) if request.fps else 1
    indices = range(0, count, step)
    denser_fps = min(request.max_frames // len(indices), request.max_fps)
    if denser_fps > request.fps:
        indices = range(0, count, whole_step(native_fps, denser_fps))
    return at_most(indices, count, request.max_frames)


def whole_seconds(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """The frame at each whole second of the video (Video-XL, VNBench), each once; past `max_frames`, that many
    evenly."""
    at_seconds = dict.fromkeys(int(s * native_fps) for s in range(int(count / native_fps)))
    return at_most(list(at_seconds), count, request.max_frames)


def midpoints(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """The middle of each of `max_frames` equal segments (MVBench and MLVU, official code). Where almost every frame is
    asked for, the published rounding meets some frames twice."""
    n = min(request.max_frames, count)
    segment = (count - 1) / n
    return [int(segment / 2 + round(segment * i)) for i in range(n)]


def haystack(request: FrameRequest, count: int, native_fps: float) -> Indices:
    """One frame a second from the start, the first `max_frames` of them (LongVA, needle in a haystack)."""
    indices = range(0, count, whole_step(native_fps, 1.0))
    return indices[: request.max_frames] if request.max_frames else indices


RULES: dict[str, Rule] = {
    "uniform": Rule(uniform),
    "uniform_inside": Rule(uniform_inside),
    "fps": Rule(at_fps, unlimited=True, needs_fps=True),
    "longvideobench": Rule(longvideobench),
    "video_xl_2": Rule(video_xl_2, unlimited=True, time_digits=1),
    "whole_seconds": Rule(whole_seconds, unlimited=True),
    "midpoints": Rule(midpoints),
    "haystack": Rule(haystack, unlimited=True),
}

_trusted = {"evalkit"}


def trust(packages: Iterable[str]) -> None:
    """Allow rules from these packages in this process: installed plug-ins, and the run's `plugins`."""
    _trusted.update(packages)


def trusted() -> list[str]:
    """Packages whose rules may be imported."""
    return sorted(_trusted)


def rule(name: str) -> Rule:
    """The rule of this name, or at this import path. Raises ConfigError."""
    if name in RULES:
        return RULES[name]
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigError(
            f'No frame sampling rule is called "{name}".{suggest(name, RULES)} Choose one of: {", ".join(RULES)}; or '
            "give the import path of a function, such as mypackage.rules.my_rule."
        )
    if not any(f"{module_name}.".startswith(f"{package}.") for package in _trusted):
        package = module_name.partition(".")[0]
        raise ConfigError(
            f'The frame sampling rule "{name}" is outside evalkit. If you trust that package, list it: '
            f"plugins=[{package}]."
        )
    try:
        found = getattr(importlib.import_module(module_name), attribute, None)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f'The frame sampling rule "{name}": there is no module {error.name}.') from None
        raise
    if not callable(found) or isinstance(found, type):
        raise ConfigError(f'The frame sampling rule "{name}": {module_name} has no function {attribute}.')
    return found if isinstance(found, Rule) else Rule(found)


def rule_source(name: str) -> Path:
    """The file that the rule's code stands in."""
    function = inspect.unwrap(rule(name).indices)
    return Path(inspect.getsourcefile(function) or __file__)


RESAMPLING = {filter_.name.lower(): filter_ for filter_ in Image.Resampling}


def check(request: FrameRequest) -> None:
    """Raise ConfigError where `request` cannot work for any video."""
    chosen = rule(request.rule)
    if request.max_frames < 0 or (request.max_frames == 0 and not chosen.unlimited):
        raise ConfigError(f"max_frames is {request.max_frames}; the rule {request.rule} needs at least 1.")
    if not math.isfinite(request.fps) or request.fps < 0 or (request.fps == 0 and chosen.needs_fps):
        raise ConfigError(f"fps is {request.fps:g}; it must be above 0.")
    if not request.max_fps >= 0:
        raise ConfigError(f"max_fps is {request.max_fps:g}; it must not be negative.")
    if request.multiple_of < 1:
        raise ConfigError(f"multiple_of is {request.multiple_of}; it must be at least 1.")
    if request.resize is not None and type(request.resize) not in KINDS.values():
        raise ConfigError(f"resize is {request.resize!r}; give one of: {', '.join(KINDS)} (evalkit.video.resize).")
    if request.resample not in RESAMPLING:
        raise ConfigError(
            f'No resampling filter is called "{request.resample}".{suggest(request.resample, RESAMPLING)} '
            f"Choose one of: {', '.join(RESAMPLING)}."
        )


def sample(
    request: FrameRequest,
    frame_count: int,
    native_fps: float,
    start_s: float | None = None,
    end_s: float | None = None,
) -> FramePlan:
    """The frames that `request` asks for, of a video or of its part between `start_s` and `end_s` (as MVBench cuts:
    nearest frames, both included). Indices and times are positions in the whole file.

    Raises ConfigError for a request that cannot work, VideoError (kind too_short or damaged) for a video from which the
    rule gets no frames. The message of a VideoError begins with its verb; the caller puts the file's path before it.
    """
    check(request)
    if frame_count < 1:
        raise VideoError("has no frames", kind="too_short")
    if not (math.isfinite(native_fps) and native_fps > 0):
        raise VideoError(f"states a frame rate of {native_fps:g}, so no frame has a time", kind="damaged")

    first, last = 0, frame_count - 1
    if start_s is not None:
        first = max(0, round(start_s * native_fps))
    if end_s is not None:
        last = min(last, round(end_s * native_fps))
    if last < first:
        raise VideoError(
            f"has no frames between {start_s or 0:g} s and {end_s if end_s is not None else math.inf:g} s: "
            f"it is {frame_count / native_fps:.1f} s long",
            kind="too_short",
        )

    chosen = rule(request.rule)
    within = [int(i) for i in chosen(request, last - first + 1, native_fps)]
    _check_indices(request.rule, within, last - first + 1)
    kept = [first + i for i in within[: len(within) - len(within) % request.multiple_of]]
    if not kept:
        raise VideoError(
            f"is too short: the rule {request.rule} finds {len(within)} frames in its "
            f"{(last - first + 1) / native_fps:.2f} s"
            + (f", and the model reads them in groups of {request.multiple_of}" if request.multiple_of > 1 else ""),
            kind="too_short",
        )
    times = [i / native_fps for i in kept]
    if chosen.time_digits is not None:
        times = [round(time, chosen.time_digits) for time in times]
    return FramePlan(tuple(kept), tuple(times), native_fps, frame_count, request.rule)


def _check_indices(name: str, indices: Indices, count: int) -> None:
    """Raise ConfigError where a rule of a plugin returns indices that no decoder can read."""
    if any(i > j for i, j in pairwise(indices)) or (indices and not 0 <= indices[0] <= indices[-1] < count):
        raise ConfigError(
            f'The frame sampling rule "{name}" returned indices that are not ascending between 0 and {count - 1}: '
            "correct that function."
        )
