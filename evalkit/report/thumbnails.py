"""Thumbnails of the frames a model saw, read again from the videos where those are still there."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError, VideoError
from evalkit.task import DataSet
from evalkit.types import Video

from .entries import Entry
from .timeline import picked

HEIGHT = 72
"""Of a thumbnail, in pixels; its width follows the picture's, between half and twice that."""


_SEAM = (128, 128, 128)


@dataclass
class Thumbnails:
    """Makes strips below `folder`, each once for all runs that saw the same frames. `number` thumbnails a strip; 0:
    none. `most`: strips in all, so that a report stays small. Hours of video take long to read: after `budget_s`
    seconds no more strips are made. `left`, `beyond`: videos without one because of the time, and because of `most`.
    `failures`: the reason why a video has none."""

    folder: Path
    number: int
    most: int = 40
    budget_s: float = math.inf
    failures: dict[str, str] = field(default_factory=dict)
    left: int = 0
    beyond: int = 0
    _spent_s: float = 0.0
    _used: set[Path] = field(default_factory=set)

    def of(self, video: Video | None, plan: Mapping[str, Any] | None) -> Path | None:
        """The strip's file; None where there is no video any more, or no frames of it."""
        if not self.number or video is None or not plan or not plan.get("indices"):
            return None
        if video.composite is not None or not video.path.exists():
            return None
        positions = picked(plan, self.number)
        indices = [int(plan["indices"][p]) for p in positions]
        stat = video.path.stat()
        name = sha256(repr((str(video.path), stat.st_size, stat.st_mtime_ns, indices, HEIGHT)).encode()).hexdigest()[
            :20
        ]
        file = self.folder / f"{name}.jpg"
        if file not in self._used and len(self._used) >= self.most:
            self.beyond += 1
            return None
        if file.exists():
            self._used.add(file)
            return file
        if self._spent_s > self.budget_s:
            self.left += 1
            return None
        started = time.perf_counter()
        try:
            _write(file, video, indices)
        except VideoError as error:
            self.failures[video.id] = str(error)
            return None
        finally:
            self._spent_s += time.perf_counter() - started
        self._used.add(file)
        return file

    def messages(self) -> list[str]:
        """What is not shown, and how to show it."""
        found = [f"no thumbnails of {video}: {reason}" for video, reason in self.failures.items()]
        if self.beyond:
            found.append(f"no thumbnails of {self.beyond} videos: --thumbnail-videos is {self.most}")
        if self.left:
            found.append(
                f"no thumbnails of {self.left} videos: {self.budget_s / 60:g} minutes were spent on the others. The "
                "same command makes the next ones; --thumbnail-minutes gives it longer"
            )
        return found


def videos(entry: Entry) -> dict[str, Video]:
    """The videos of a run by id, as its task finds them in the folder that it used; empty where that is gone."""
    root = Path(str((entry.manifest.get("data") or {}).get("root") or ""))
    if not root.is_absolute() or not root.is_dir():
        return {}
    task = entry.rules()
    try:
        return {item.video.id: item.video for item in task.incomplete().read(DataSet(root))}
    except EvalkitError:
        return {}  # the annotations are gone or changed: pages stand without pictures


def _write(file: Path, video: Video, indices: list[int]) -> None:
    import av
    from PIL import Image

    from evalkit.video.info import BackendFailed
    from evalkit.video.pictures import PictureFolder
    from evalkit.video.pyav import PyAVDecoder

    distinct = sorted(set(indices))
    try:
        decoder = PictureFolder(video.path, video.fps) if video.path.is_dir() else PyAVDecoder(video.path)
        frames = dict(zip(distinct, decoder.frames(distinct), strict=True))
        decoder.close()
    except (BackendFailed, av.FFmpegError, ValueError) as error:
        raise VideoError(f"{video.path} cannot be read again ({error})", "damaged") from None
    height, width = frames[distinct[0]].shape[:2]
    size = (min(max(round(HEIGHT * width / height), HEIGHT // 2), 2 * HEIGHT), HEIGHT)
    strip = Image.new("RGB", (size[0] * len(indices), size[1]), _SEAM)
    for i, index in enumerate(indices):
        strip.paste(Image.fromarray(frames[index]).resize((size[0] - 1, size[1])), (i * size[0], 0))
    file.parent.mkdir(parents=True, exist_ok=True)
    strip.save(file, quality=72, optimize=True)
