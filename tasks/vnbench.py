"""VNBench: a video needle-in-a-haystack benchmark made with VideoNIAH (arXiv 2406.09367).

Repository: github.com/joez17/VideoNIAH. Data: huggingface.co/datasets/videoniah/VNBench.
Nine kinds of needles are put into each of 150 haystacks. Each of these 1,350 videos has one question, asked four times
with reordered options. It is right if all four replies are right; a model that always gives one letter scores 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import stripped
from evalkit.scoring.summary import Mean
from evalkit.scoring.units import EACH, all_of
from evalkit.tables import Row, read_rows, read_table, shown
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Video, VideoQuestions

from ._shared import dotted, letter_of, parenthesised

_FILE = "VNBench-main-4try.json"
_FOLDERS = ("VNBench_new/", "VNBench/", "videos/", "video/", "")
_NEEDLE = re.compile(r"_(?:ret|ord|cnt)_(?:edit|insert)\d+$")
_EXCHANGED = {"ret_insert1": "ret_insert2", "ret_insert2": "ret_insert1"}
_TRIES = 4
_FOUR = all_of(_TRIES)
_FAMILIES = ("ret", "ord", "cnt")
_METRICS = (
    Mean("Overall", over="type"),
    *(Mean(family, over="type", where=("family", family)) for family in _FAMILIES),
    Mean("single try", unit=EACH),
)
_SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)


def _official(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{q.text}\n{dotted(q.options)}\nAnswer with the option's letter from the given choices directly."


def _video_xl(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"Question: {q.text}\nOptions:\n{parenthesised(q.options)}".rstrip() + "\n"


@dataclass
class VNBench(Task):
    split: str = "test"

    name = "vnbench"
    benchmark = "VNBench"
    splits: ClassVar = {"test": Split(questions=(5400,), videos=(1350,))}
    tables = ("type",)
    hub = HubData(
        ("videoniah/VNBench", "Joez1717/VNBench"),
        "vnbench",
        by_hand="The hub has the annotations alone. The videos are one Google Drive archive, "
        "1KOUzy07viQzpmpcBqydUA043VQZ4nmRv (github.com/joez17/VideoNIAH links to it): unpack it to VNBench_new/.",
    )
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/joez17/VideoNIAH, README.md and evaluation/eval.py",
            prompt=_official,
            grader=Choice("vnbench"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=5),
            unit=_FOUR,
        ),
        "llava_example": Protocol(
            source="github.com/joez17/VideoNIAH, llava_examples/evaluation_utils.py: the reply's first character; its "
            "report shows the score of ret_insert1 as ret_insert2, and the other way round",
            prompt=_official,
            grader=Choice("first_character"),
            clean=stripped,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=5),
            unit=_FOUR,
        ),
        "video_xl": Protocol(
            source="github.com/VectorSpaceLab/Video-XL, Video-XL/eval/eval_vnbench.py, its file read by eval.py",
            prompt=_video_xl,
            grader=Choice("paren"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=1024),
            system=_SYSTEM,
            unit=_FOUR,
        ),
    }

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        tables = find_tables(root, (_FILE, f"annotations/{_FILE}"))
        if not tables:
            raise no_tables(root, self.benchmark, _FILE, f"{_FOLDERS[0]}<video>.mp4")
        files, labels = VideoFiles(root), _EXCHANGED if self.protocol == "llava_example" else {}
        yield from read_rows(read_table(tables[0]), lambda row: _item(row, files, labels), self.allow_missing)

    def make_miniature(self, root: Path) -> None:
        from ._mini.vnbench import write

        write(root)


def _item(row: Row, files: VideoFiles, labels: Mapping[str, str]) -> VideoQuestions:
    """`labels`: a row's type -> the name of its slice, where they differ."""
    name = row.file_name("video").rpartition("/")[2]
    stem, kind = Path(name).stem, row.text("type")
    options, answer = row.options("options"), str(row["gt"])  # numbers in counting questions
    gold = letter_of(options, answer)
    if gold is None:
        raise row.error("gt", f"{shown(answer)} is none of the options {shown(list(options))}")
    question = Question(
        id=f"{stem}_{row.id('try')}",
        text=row.text("question"),
        options=options,
        gold=gold,
        unit=stem,
        groups={"type": (labels.get(kind, kind),), "family": (kind.partition("_")[0],)},
        meta={"try": row["try"]},
    )
    video = Video(stem, files.find(*(f"{folder}{name}" for folder in _FOLDERS)), duration_s=row.seconds("length"))
    return VideoQuestions(video, (question,), cluster=_NEEDLE.sub("", stem))
