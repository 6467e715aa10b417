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
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from evalkit.runs import slug
from evalkit.types import Record

from .board import Board, Cell
from .questions import MARKS, SIGNS, Elsewhere, gist, mark, shown
from .render import page
from .thumbnails import Strips, videos
from .timeline import chunk_groups, stretches, timeline

MOST_OTHERS = 10
"""Other runs that a run's pages show beside it: those of the same benchmark and split, best first."""

_CODES = {"right": "1", "partly": "p", "wrong": "0", "unread": "u", "failed": "f", "dropped": "d"}


@dataclass(frozen=True)
class Answers:
    """What the pages of other runs need to know of a run."""

    cell: Cell
    marks: Mapping[str, tuple[str, str]]
    """Question -> mark and extracted value."""
    files: Mapping[str, str]
    """Question -> its page, below the run's folder of pages."""

    @classmethod
    def of(cls, cell: Cell, records: Sequence[Record]) -> Answers:
        marks = {r.question: (mark(r), shown(r.extracted)) for r in records}
        return cls(cell, marks, {r.question: f"{_file(r.video)}#{_anchor(r.question)}" for r in records})


def write(board: Board, out: Path, thumbnails: int) -> list[str]:
    """Write the pages of all runs below `out`; returns what could not be shown, in words."""
    strips = Strips(out / "samples" / "thumbnails", thumbnails)
    for benchmark in dict.fromkeys((c.entry.task, c.entry.split, c.column.miniature) for c in board.cells):
        cells = [c for column in board.columns for c in board.of(column)]
        cells = [c for c in cells if (c.entry.task, c.entry.split, c.column.miniature) == benchmark]
        everything = [Answers.of(cell, cell.entry.records()) for cell in cells]
        for answers in everything:
            _write_run(answers, [other for other in everything if other is not answers][:MOST_OTHERS], out, strips)
    return [f"no thumbnails of {video}: {reason}" for video, reason in strips.failures.items()]


def _write_run(answers: Answers, others: Sequence[Answers], out: Path, strips: Strips) -> None:
    cell = answers.cell
    folder = out / "samples" / cell.entry.name
    folder.mkdir(parents=True, exist_ok=True)
    records = cell.entry.records()
    beside = [(other, _link(out / "samples" / other.cell.entry.name, folder)) for other in others]
    by_video: dict[str, list[Record]] = {}
    for record in records:
        by_video.setdefault(record.video, []).append(record)
    common = {
        "cell": cell,
        "leaderboard": _link(out / "leaderboard.html", folder),
        "run_files": _link(cell.entry.path, folder),
        "marks": MARKS,
        "signs": SIGNS,
        "stages": {"video_decode": "video decoding", "generate": "token generation"},
        "mark": mark,
        "gist": gist,
        "shown": shown,
        "anchor": _anchor,
    }
    found, names = videos(cell.entry) if strips.number else {}, list(by_video)
    for i, (video, asked) in enumerate(by_video.items()):
        seen = next((record for record in asked if record.sampling), asked[0])
        strip = strips.of(found.get(video), seen.sampling)
        groups = chunk_groups(cell.entry.identity)
        html = page(
            "video.html.jinja", ("page.css", "samples.css"), "video.js", **common,
            video=video, records=asked, seen=seen, timeline=timeline(seen),
            strip=_link(strip, folder) if strip else None,
            stretches={record.question: stretches(record, groups) for record in asked},
            elsewhere={record.question: _elsewhere(record, beside) for record in asked},
            before=_file(names[i - 1]) if i else None, after=_file(names[i + 1]) if i + 1 < len(names) else None,
        )  # fmt: skip
        (folder / _file(video)).write_text(html, encoding="utf-8")
    html = page(
        "run.html.jinja", ("page.css", "samples.css"), "samples.js", **common,
        records=records, counts=Counter(map(mark, records)), file=_file, others=_changes(answers, others), config=_text(cell, "config.yaml"),
        manifest=_text(cell, "manifest.json"), marks_json=script_json(_marks_of(records, others)),
    )  # fmt: skip
    (folder / "index.html").write_text(html, encoding="utf-8")


def _elsewhere(record: Record, beside: Sequence[tuple[Answers, str]]) -> list[tuple[Cell, Elsewhere]]:
    """The question in other runs; `beside` has each with the way to its pages."""
    found = []
    for other, folder in beside:
        if record.question in other.marks:
            word, extracted = other.marks[record.question]
            found.append((other.cell, Elsewhere(word, extracted, f"{folder}/{other.files[record.question]}")))
    return found


def _changes(answers: Answers, others: Sequence[Answers]) -> list[tuple[Cell, int, int]]:
    """For each other run, how many questions this one got right that the other did not, and the reverse."""
    changes = []
    for other in others:
        pairs = [(answers.marks[q][0], other.marks[q][0]) for q in answers.marks if q in other.marks]
        better = sum(a == "right" != b for a, b in pairs)
        worse = sum(b == "right" != a for a, b in pairs)
        changes.append((other.cell, better, worse))
    return changes


def _marks_of(records: Sequence[Record], others: Sequence[Answers]) -> list[str]:
    """For each other run one character a question, in the order of the list."""
    return ["".join(_CODES[o.marks[r.question][0]] if r.question in o.marks else "-" for r in records) for o in others]


def script_json(value: object) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(cell: Cell, name: str) -> str:
    path = cell.entry.path / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _file(video: str) -> str:
    """A page's name: readable, and different for different videos."""
    return f"{slug(video)[:60]}-{sha256(video.encode()).hexdigest()[:8]}.html"


def _anchor(question: str) -> str:
    return f"q-{slug(question)[:60]}-{sha256(question.encode()).hexdigest()[:6]}"


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())
