"""The page of a run: a list of its questions, and for each video what the model saw and replied.

`samples/<task>/<model>/<key>/index.html`, one file for each run. Its data lies in the page in compressed blocks of
`BLOCK` videos; the page's script shows the list, and the view of the video or question that the address names
(`#video=...`, `#q=...`). Records are read one video at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evalkit.runs import LinesAt
from evalkit.text import first_line
from evalkit.types import Prefill, Record, Video

from . import contents
from .blocks import Block, script_json
from .board import Board, Cell
from .contents import CODES
from .entries import Answer
from .questions import MARKS, SIGNS
from .render import write_page
from .thumbnails import Thumbnails, videos

MOST_OTHERS = 10
"""Other runs that a run's page shows beside it: those of the same benchmark and split, best first."""

BLOCK = 200
"""Videos in a block: what the browser decompresses to show one of them."""

_EXTRACTED = 24
"""Characters of another run's extracted value that are shown."""


def write(board: Board, out: Path, strips: Thumbnails) -> list[str]:
    """Write the pages of all runs below `out`; returns a message for each thing that could not be shown."""
    failed: list[str] = []
    benchmarks: dict[tuple[object, ...], list[Cell]] = {}
    for cell in chain.from_iterable(map(board.of, board.columns)):
        benchmarks.setdefault((cell.entry.task, cell.entry.split, cell.column.miniature), []).append(cell)
    for cells in benchmarks.values():
        for cell in cells:
            others = [other for other in cells if other is not cell]
            try:
                RunPage(cell, others[:MOST_OTHERS], out, strips).write()
            except OSError:
                raise
            except Exception as error:  # one run's page must not cost those of the others
                failed.append(f"no page of {cell.entry.path}: {type(error).__name__}: {first_line(error)}")
    return failed + strips.messages()


class RunPage:
    """The page of one run."""

    def __init__(self, cell: Cell, others: Sequence[Cell], out: Path, strips: Thumbnails) -> None:
        self.cell, self.others, self.out, self.strips = cell, others, out, strips
        self.answers = cell.entry.digest.answers
        self.theirs = [other.entry.digest.answers for other in others]
        self.folder = out / "samples" / cell.entry.name

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = self.cell.entry
        with ExitStack() as stack:
            values: dict[str, Any] = {
                "cell": self.cell,
                "marks": MARKS,
                "counts": Counter(answer.mark for answer in self.answers.values()),
                "others": [(other, *_alone(self.answers, theirs)) for other, theirs in self._with_answers()],
                "leaderboard": _link(self.out / "leaderboard.html", self.folder),
                "run_files": _link(entry.path, self.folder),
                "config": self._text("config.yaml"),
                "manifest": self._text("manifest.json"),
                "blocks": self._blocks(stack.enter_context(entry.stored.lines_at())),
                "names": script_json(self._names()),
            }
            write_page(self.folder / "index.html", "run.html.jinja", ("page.css", "samples.css"), "samples.js", values)

    def _with_answers(self) -> Iterator[tuple[Cell, Mapping[str, Answer]]]:
        return zip(self.others, self.theirs, strict=True)

    def _names(self) -> dict[str, Any]:
        """What the script needs beside the questions."""
        marks = {code: [mark, MARKS[mark], SIGNS[mark]] for mark, code in CODES.items()}
        others = [
            {
                "letter": other.row.letter,
                "title": f"{other.row.title}, protocol {other.entry.protocol}",
                "page": _link(self.out / "samples" / other.entry.name / "index.html", self.folder),
            }
            for other in self.others
        ]
        return {"marks": marks, "others": others}

    def _blocks(self, lines: LinesAt) -> Iterator[tuple[str, str]]:
        """(list, contents) of every `BLOCK` videos, each in base64."""
        asked: dict[str, list[str]] = {}
        for question, answer in self.answers.items():
            asked.setdefault(answer.video, []).append(question)
        found = videos(self.cell.entry) if self.strips.number else {}
        for start in range(0, len(asked), BLOCK):
            rows, full = Block(), Block()
            for video in list(asked)[start : start + BLOCK]:
                self._add(video, asked[video], found.get(video), lines, rows, full)
            yield rows.base64(), full.base64()

    def _add(
        self, name: str, questions: Sequence[str], video: Video | None, lines: LinesAt, rows: Block, full: Block
    ) -> None:
        """One video with its questions to both blocks."""
        prefills: dict[str, Prefill] = {}
        records = [self._record(lines, question, prefills) for question in questions]
        seen = next((prefills[r.prefill] for r in records if r.prefill in prefills), None)
        strip = self.strips.of(video, seen.plan if seen else None)
        rows.add([name, [contents.row(record, self._there(record.question)) for record in records]])
        full.add(
            {
                **contents.video(seen, _link(strip, self.folder) if strip else None),
                "questions": [self._question(record, prefills.get(record.prefill or "")) for record in records],
            }
        )

    def _record(self, lines: LinesAt, question: str, prefills: dict[str, Prefill]) -> Record:
        """The record of a question; its prefill goes into `prefills`."""
        record, prefill = lines.record(self.answers[question].place)
        id, places = record.prefill, self.cell.entry.digest.prefills
        if id is not None and id not in prefills:
            if prefill is None and id in places:
                prefill = lines.prefill(places[id])
            if prefill is not None:
                prefills[id] = prefill
        return record

    def _question(self, record: Record, prefill: Prefill | None) -> dict[str, Any]:
        others = [
            [number, CODES[answer.mark], _cut(answer.extracted)]
            for number, theirs in enumerate(self.theirs)
            if (answer := theirs.get(record.question))
        ]
        return contents.question(record, prefill, self.cell.entry.describe(record, prefill), others)

    def _there(self, question: str) -> str:
        """The marks of the question in the other runs, one character each."""
        return "".join(CODES[theirs[question].mark] if question in theirs else "-" for theirs in self.theirs)

    def _text(self, name: str) -> str:
        path = self.cell.entry.path / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def _alone(answers: Mapping[str, Answer], theirs: Mapping[str, Answer]) -> tuple[int, int]:
    """How many questions this run got right and the other did not, and the reverse."""
    pairs = [(answers[q].mark == "right", theirs[q].mark == "right") for q in answers if q in theirs]
    return sum(here and not there for here, there in pairs), sum(there and not here for here, there in pairs)


def _cut(text: str) -> str:
    return text if len(text) <= _EXTRACTED else f"{text[: _EXTRACTED - 1]}…"


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())
