"""The pages of a run: a list of its questions, and for each video what the model saw and said.

`samples/<task>/<model>/<key>/index.html` and one page a video beside it. Everything is in the pages; the script of the
list only filters.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evalkit.runs import slug
from evalkit.text import first_line
from evalkit.types import Prefill, Record

from .board import Board, Cell
from .questions import MARKS, SIGNS, OtherRun, gist, mark, shown
from .render import page
from .thumbnails import Thumbnails, videos
from .timeline import stretches, timeline

MOST_OTHERS = 10
"""Other runs that a run's pages show beside it: those of the same benchmark and split, best first."""

_STAGES = {"video_decode": "video decoding", "generate": "token generation"}
_CODES = {"right": "1", "partly": "p", "wrong": "0", "unread": "u", "failed": "f", "waiting": "w", "dropped": "d"}


@dataclass(frozen=True)
class Answers:
    """What the pages of other runs show of a run: by question its mark, extracted value and video."""

    cell: Cell
    marks: Mapping[str, tuple[str, str, str]]

    @classmethod
    def of(cls, cell: Cell) -> Answers:
        return cls(cell, cell.entry.digest.answers)


def write(board: Board, out: Path, thumbnails: int, budget_s: float) -> list[str]:
    """Write the pages of all runs below `out`; returns what could not be shown, in words."""
    strips = Thumbnails(out / "samples" / "thumbnails", thumbnails, budget_s)
    failed: list[str] = []
    benchmarks: dict[tuple[object, ...], list[Cell]] = {}
    for cell in chain.from_iterable(map(board.of, board.columns)):
        benchmarks.setdefault((cell.entry.task, cell.entry.split, cell.column.miniature), []).append(cell)
    for cells in benchmarks.values():
        everything = [Answers.of(cell) for cell in cells]
        for answers in everything:
            others = [other for other in everything if other is not answers]
            try:
                RunPages(answers, others[:MOST_OTHERS], out, strips).write()
            except OSError:
                raise
            except Exception as error:  # one run's pages must not cost those of the others
                failed.append(f"no pages of {answers.cell.entry.path}: {type(error).__name__}: {first_line(error)}")
            answers.cell.entry.release()
    missing = failed + [f"no thumbnails of {video}: {reason}" for video, reason in strips.failures.items()]
    if strips.left:
        missing.append(
            f"no thumbnails of {strips.left} videos: {budget_s / 60:g} minutes were spent on the others. The same "
            "command makes the next ones; --thumbnail-minutes gives it longer"
        )
    return missing


class RunPages:
    """The pages of one run."""

    def __init__(self, answers: Answers, others: Sequence[Answers], out: Path, strips: Thumbnails) -> None:
        self.answers, self.others, self.strips = answers, others, strips
        self.cell = answers.cell
        self.folder = out / "samples" / self.cell.entry.name
        self.beside = [(other, _link(out / "samples" / other.cell.entry.name, self.folder)) for other in others]
        self.common: dict[str, Any] = {
            "cell": self.cell,
            "leaderboard": _link(out / "leaderboard.html", self.folder),
            "marks": MARKS,
            "mark": mark,
            "gist": gist,
            "shown": shown,
            "anchor": anchor_of,
        }

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        records = self.cell.entry.records()
        self._write("index.html", self.overview(records))
        asked: dict[str, list[Record]] = {}
        for record in records:
            asked.setdefault(record.video, []).append(record)
        prefills = self.cell.entry.prefills()
        found = videos(self.cell.entry) if self.strips.number else {}
        names: list[str | None] = [None, *map(file_of, asked), None]
        for i, (video, questions) in enumerate(asked.items()):
            seen = next((prefills[r.prefill] for r in questions if r.prefill and r.prefill in prefills), None)
            strip = self.strips.of(found.get(video), seen.plan if seen else None)
            html = self.video(video, questions, seen, strip, before=names[i], after=names[i + 2])
            self._write(file_of(video), html)

    def _write(self, name: str, html: str) -> None:
        (self.folder / name).write_text(html, encoding="utf-8")

    def overview(self, records: Sequence[Record]) -> str:
        """All questions, with what the filters need."""
        return page(
            "run.html.jinja",
            ("page.css", "samples.css"),
            "samples.js",
            **self.common,
            records=records,
            counts=Counter(map(mark, records)),
            file=file_of,
            others=[(other.cell, *_alone(self.answers, other)) for other in self.others],
            run_files=_link(self.cell.entry.path, self.folder),
            config=self._text("config.yaml"),
            manifest=self._text("manifest.json"),
            marks_json=script_json([_codes(records, other) for other in self.others]),
        )

    def video(
        self, name: str, records: Sequence[Record], seen: Prefill | None, strip: Path | None, **turn: str | None
    ) -> str:
        """One video with its questions. `seen` says which frames were read."""
        prefills = self.cell.entry.prefills()
        described = {record.question: self.cell.entry.describe(record) for record in records}
        return page(
            "video.html.jinja",
            ("page.css", "samples.css"),
            "video.js",
            **self.common,
            **turn,
            video=name,
            records=records,
            seen=seen,
            timeline=timeline(seen),
            strip=_link(strip, self.folder) if strip else None,
            described=described,
            stretches={
                record.question: stretches(prefills.get(record.prefill or ""), described[record.question].spans)
                for record in records
            },
            prefills=prefills,
            elsewhere={record.question: self._elsewhere(record) for record in records},
            signs=SIGNS,
            stages=_STAGES,
        )

    def _elsewhere(self, record: Record) -> list[tuple[Cell, OtherRun]]:
        """The question in the other runs."""
        found = []
        for other, folder in self.beside:
            if record.question in other.marks:
                word, extracted, video = other.marks[record.question]
                page = f"{folder}/{file_of(video)}#{anchor_of(record.question)}"
                found.append((other.cell, OtherRun(word, extracted, page)))
        return found

    def _text(self, name: str) -> str:
        path = self.cell.entry.path / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def _alone(answers: Answers, other: Answers) -> tuple[int, int]:
    """How many questions this run got right and the other did not, and the reverse."""
    pairs = [(answers.marks[q][0] == "right", other.marks[q][0] == "right") for q in answers.marks if q in other.marks]
    return sum(here and not there for here, there in pairs), sum(there and not here for here, there in pairs)


def _codes(records: Sequence[Record], other: Answers) -> str:
    """The other run's marks, one character a question, in the order of the list."""
    return "".join(_CODES[other.marks[r.question][0]] if r.question in other.marks else "-" for r in records)


def script_json(value: object) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=100_000)
def file_of(video: str) -> str:
    """A page's name: readable, and different for different videos."""
    return f"{slug(video)[:60]}-{sha256(video.encode()).hexdigest()[:8]}.html"


@lru_cache(maxsize=100_000)
def anchor_of(question: str) -> str:
    return f"q-{slug(question)[:60]}-{sha256(question.encode()).hexdigest()[:6]}"


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())
