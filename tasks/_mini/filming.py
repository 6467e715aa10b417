"""Shared by the miniatures: videos made of shots, and annotation files with the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video

Shot = tuple[float, str] | tuple[float, str, str] | tuple[float, str, str, str]
"""(seconds, colour[, text[, colour of the moving square]])"""


def cut(*shots: Shot) -> list[Scene]:
    """Scenes for the shots in this order."""
    scenes: list[Scene] = []
    for seconds, *look in shots:
        start_s = scenes[-1].end_s if scenes else 0.0
        scenes.append(Scene(start_s, start_s + seconds, *look))
    return scenes


def length_s(timeline: Sequence[Scene]) -> float:
    return float(max(scene.end_s for scene in timeline))


def shoot(path: Path, timeline: Sequence[Scene], fps: float = 8, size: tuple[int, int] = (96, 128)) -> None:
    """Write a video of `size` (height, width), and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, film(timeline, fps, size), fps)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def write_srt(path: Path, lines: Iterable[tuple[float, float, str]]) -> None:
    """SubRip: (start, end, text) in seconds, numbered from 1."""

    def clock(seconds: float) -> str:
        ms = round(seconds * 1000)
        return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"

    path.parent.mkdir(parents=True, exist_ok=True)
    sections = (f"{i}\n{clock(start)} --> {clock(end)}\n{text}\n\n" for i, (start, end, text) in enumerate(lines, 1))
    path.write_text("".join(sections), encoding="utf-8")
