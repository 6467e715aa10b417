"""NExT-QA, multiple choice: next phase of question answering to explaining temporal actions (CVPR 2021).

Repository: github.com/doc-doc/NExT-QA. Data: huggingface.co/datasets/lmms-eval/NExTQA (configuration MC). The paper's
models are classifiers without a prompt, so the protocols are those of other evaluation codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evalkit.errors import DataError
from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import lmms_eval
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_json, read_rows, read_table, shown
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Video, VideoQuestions

from ._shared import LETTERS, dotted

_FAMILIES = {"C": "causal", "T": "temporal", "D": "descriptive"}
_METRICS = (
    Mean("accuracy"),
    Mean("accuracy, draws in expectation", "expected"),
    *(Mean(f"Acc@{letter}", where=("family", family)) for letter, family in _FAMILIES.items()),
)
_GRADER = Choice("nextqa", letters="ABCDE")  # draws a letter for a reply that has none


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{q.text.strip()}\n{dotted([option.strip() for option in q.options])}"


def _llava_video(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{_lmms_eval(item, q, plan)}\nAnswer with the option's letter from the given choices directly."


@dataclass
class NExTQA(Task):
    split: str = "test"
    protocol: str = "lmms_eval"

    name = "nextqa"
    benchmark = "NExT-QA"
    splits: ClassVar = {
        "test": Split(questions=(8564,), videos=(1000,)),
        "val": Split(questions=(4996,), videos=(570,)),
    }
    tables = ("family", "type")
    hub = HubData(
        ("lmms-eval/NExTQA", "lmms-lab/NExTQA"),
        "nextqa",
        size_gb=6.5,
        files=("MC/*", "videos.zip"),
        by_hand="the val split: val.csv and map_vid_vidorID.json from github.com/doc-doc/NExT-QA, dataset/nextqa.",
    )
    protocols: ClassVar = {
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/nextqa; it sets no length, 16 tokens are ours",
            prompt=_lmms_eval,
            grader=_GRADER,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=16),
            clean=lmms_eval,
        ),
        "llava_video": Protocol(
            source="the same with the post-prompt that LLaVA-Video (arXiv 2410.02713) was evaluated with",
            prompt=_llava_video,
            grader=_GRADER,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=16),
            clean=lmms_eval,
        ),
    }

    def make_miniature(self, root: Path) -> None:
        from ._mini.nextqa import write

        write(root)

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        hub, official = f"MC/{self.split}-*.parquet", (f"{self.split}.csv", f"dataset/nextqa/{self.split}.csv")
        tables = find_tables(root, (hub, *official)) or cached_tables(root, self.hub, (hub,), self.split, "MC")
        if not tables:
            expected = f"MC/{self.split}-00000-of-00001.parquet or {self.split}.csv"
            raise no_tables(root, f"{self.benchmark} ({self.split})", expected, "NExTVideo/<video>.mp4")
        files, folders = VideoFiles(root), _video_folders(root)
        rows = (row for table in tables for row in read_table(table))
        yield from read_rows(rows, lambda row: _item(row, files, folders), self.allow_missing)


def _video_folders(root: Path) -> dict[str, str]:
    """Video id -> its path in VidOR, where the official videos lie ("1164/3238737531"). The hub's lie flat."""
    name = "map_vid_vidorID.json"
    for path in find_tables(root, (name, f"dataset/nextqa/{name}")):
        folders = read_json(path)
        if not isinstance(folders, dict) or not all(isinstance(place, str) for place in folders.values()):
            raise DataError(f"{path}: expected an object of texts, the path of each video.")
        return folders
    return {}


def _item(row: Row, files: VideoFiles, folders: dict[str, str]) -> VideoQuestions:
    video, kind = row.file_name("video", ".mp4"), row.text("type")
    if kind[:1] not in _FAMILIES:
        raise row.error("type", f"expected C., T. or D., found {kind!r}")
    question = Question(
        id=f"{video}_{row.id('qid')}",
        text=row.text("question"),
        options=tuple(row.text(f"a{i}") for i in range(5)),
        gold=_gold(row),
        # the official script counts "what happened before" (TP) with "after" (TN)
        groups={"family": (_FAMILIES[kind[0]],), "type": ("TN" if kind == "TP" else kind,)},
    )
    places = (f"NExTVideo/{name}.mp4" for name in (folders.get(video, video), video))
    return VideoQuestions(Video(video, files.find(*places)), (question,))


def _gold(row: Row) -> str:
    """The letter of `answer`, a number from 0 (as text in the CSV files)."""
    answer = str(row["answer"])
    if answer not in ("0", "1", "2", "3", "4"):
        raise row.error("answer", f"expected a number from 0 to 4, found {shown(row['answer'])}")
    return LETTERS[int(answer)]
