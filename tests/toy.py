"""A toy benchmark, written as an external package would write it: four short videos, three questions each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evalkit.scoring.grade import Choice
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_rows, read_table
from evalkit.task import Protocol, Split, Task
from evalkit.types import FramePlan, Question, Video, VideoQuestions
from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video

COLOURS = ("red", "green", "blue", "white")


def _ask(item: VideoQuestions, question: Question, plan: FramePlan) -> str:
    return f"{question.text}\n" + "\n".join(f"{x}. {o}" for x, o in zip("ABCD", question.options, strict=True))


@dataclass
class Toy(Task):
    split: str = "test"

    name = "toy"
    benchmark = "Toy Videos"
    splits: ClassVar = {"test": Split(questions=(12,))}
    tables = ("kind",)
    protocols: ClassVar = {
        "official": Protocol("tests", _ask, Choice("lmms_eval"), (Mean("accuracy"), Mean("macro", over="kind"))),
        "strict": Protocol("tests", _ask, Choice("mlvu"), (Mean("accuracy"),)),
    }

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        def read(row: Row) -> VideoQuestions:
            question = Question(
                id=row.id("id"),
                text=row.text("question"),
                options=row.options("options"),
                gold=row.text("answer"),
                groups={"kind": (row.text("kind"),)},
            )
            video = row.file_name("video")
            path = root / "videos" / video
            return VideoQuestions(Video(video, path, duration_s=row.seconds("seconds")), (question,))

        yield from read_rows(read_table(root / "questions.jsonl"), read, self.allow_missing)

    def make_miniature(self, root: Path) -> None:
        write_toy(root)


def write_toy(root: Path, videos: int = 4, questions: int = 3) -> Path:
    """Write videos of one solid colour each. The right answers are A, B, C, D in turn."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for v in range(videos):
        seconds = 2.0 + v
        scenes = [Scene(0, seconds, COLOURS[v % 4])]
        write_video(root / "videos" / f"v{v}.mp4", film(scenes, fps=8, size=(48, 64)), fps=8)
        rows += [
            {
                "id": f"v{v}-{q}",
                "video": f"v{v}.mp4",
                "seconds": seconds,
                "question": f"Which colour is shown ({q})?",
                "options": COLOURS,
                "answer": "ABCD"[(v + q) % 4],
                "kind": ("first", "later")[q > 0],
            }
            for q in range(questions)
        ]
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root
