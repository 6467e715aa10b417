"""LVBench: an extreme long video understanding benchmark (arXiv 2406.08035). Not to be confused with LongVideoBench.

Repository: github.com/zai-org/LVBench. Annotations: huggingface.co/datasets/zai-org/LVBench; videos: lmms-eval/LVBench.
A question may test several capabilities and then counts under each, as in the official scorer; Video-XL-2 counts it
under the first alone (`first_capability`), which moves single capabilities by up to five points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import lmms_eval, stripped
from evalkit.tables import Row, read_rows, read_table, shown
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Record, Video, VideoQuestions

from ._inlined import inlined, split_inlined, verbatim
from ._nested import parts
from ._shared import LETTERS, dotted, letter_of, lettered

_NESTED = "video_info.meta.jsonl"
_SUBMITTED = {
    "key information retrieval": "KIR",
    "event understanding": "EU",
    "summarization": "Sum",
    "entity recognition": "ER",
    "reasoning": "Rea",
    "temporal grounding": "TG",
}
_TIME = re.compile(r"(\d+):(\d\d)-(\d+):(\d\d)")
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."


def _official(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return inlined(q)


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{inlined(q)}\nAnswer the question with the option letter"


def _lettered_twice(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    """`A. (A) red`: the options of these copies have letters, and the code adds its own."""
    twice = dotted([f"({letter}) {option}" for letter, option in lettered(q.options)])
    return f"{q.text}\n{twice}\n{_LETTER_ONLY}"


@dataclass
class LVBench(Task):
    split: str = "test"

    name = "lvbench"
    benchmark = "LVBench"
    splits: ClassVar = {"test": Split(questions=(1549,), videos=(103,))}
    tables = ("capability", "first_capability", "type", "clue")
    hub = HubData(
        ("lmms-eval/LVBench", "lmms-lab/LVBench"),
        "lvbench",
        size_gb=61.8,
        also=(HubData(("zai-org/LVBench", "THUDM/LVBench"), "lvbench", files=(_NESTED,)),),  # with the official ids
    )
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/zai-org/LVBench, lvbench/metrics/compute_accuracy.py and lvbench/utils/answer_util.py; "
            "no prompt is prescribed: the question as it stands in the data",
            prompt=_official,
            grader=Choice("lvbench"),
        ),
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/lvbench",
            prompt=_lmms_eval,
            grader=Choice("lmms_eval"),
            clean=lmms_eval,
        ),
        "video_xl_2": Protocol(
            source="github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval",
            prompt=_lettered_twice,
            grader=Choice("mvbench", letters="ABCDE", invalid="excluded_if_empty"),
            decoding=Decoding(max_new_tokens=16),
            clean=stripped,
        ),
        "videochat_flash": Protocol(
            source="github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat (with 1,519 of the questions)",
            prompt=_lettered_twice,
            grader=Choice("mvbench", letters="ABCDE", invalid="excluded_if_empty"),
            decoding=Decoding(max_new_tokens=16),
            clean=stripped,
        ),
    }

    def make_miniature(self, root: Path) -> None:
        from ._mini.lvbench import write

        write(root)

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files, tables = VideoFiles(root), self._tables(root)
        several = len(tables) > 1
        rows = (row for table in tables for row in read_table(table))
        yield from read_rows(rows, lambda row: _read(row, files, several), self.allow_missing)

    def _tables(self, root: Path) -> list[Path]:
        """The official file, which has the official ids, else those of a hub copy: one file, or one for each type of
        video; parquet before the JSON of the same."""
        tables = (
            find_tables(root, _OFFICIAL)
            or cached_tables(root, self.hub, _OFFICIAL, "train")
            or find_tables(root, (), _COPIES, _COLUMNS)
            or cached_tables(root, self.hub, ("data/train-*.parquet",), "train")
        )
        if not tables:
            raise no_tables(
                root,
                self.benchmark,
                f"{_NESTED}, or a hub copy's data/train-00000-of-00001.parquet, or *.parquet or *.jsonl of its columns",
                "<key>.mp4 or videos/<key>.mp4",
            )
        return tables

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """answers.json, which the official scorer reads, and result.json, which it makes of that for the leaderboard. A
        failed question has an empty answer there, so it counts as wrong."""
        answers = {r.question: r.extracted if isinstance(r.extracted, str) else "" for r in records}
        right: dict[str, list[bool]] = {}
        for record in records:
            correct = record.status == "ok" and record.extracted is not None and record.extracted == record.gold
            for name in (*record.groups.get("capability", ()), "Overall"):
                right.setdefault(_SUBMITTED.get(name, name), []).append(correct)
        result = {name: sum(marks) / len(marks) for name, marks in right.items() if name != "Overall"}
        result["Overall"] = sum(right["Overall"]) / len(records)
        return {
            "answers.json": json.dumps(answers, indent=4) + "\n",
            "result.json": json.dumps(result, indent=4) + "\n",
        }


_OFFICIAL = (_NESTED, f"{_NESTED}.gz", f"data/{_NESTED}", f"data/{_NESTED}.gz")
_COPIES = ("*.parquet", "*/*.parquet", "*.jsonl", "*.jsonl.gz", "json/*.json", "*.json")
_COLUMNS = ({"video_path", "question", "answer"}, {"video", "question", "candidates", "answer"})


def _read(row: Row, files: VideoFiles, several: bool) -> VideoQuestions:
    """`several`: whether the rows are in several files, whose names make ids of row numbers unique."""
    if _NESTED in row.path.name:
        return _from_nested(row, files)
    return _from_flat(row, files, f"{row.path.stem}-{row.number - 1}" if several else str(row.number - 1))


def _from_nested(row: Row, files: VideoFiles) -> VideoQuestions:
    key, kind = row.file_name("key", ".mp4"), row.text("type")
    questions = []
    for qa in parts(row, "qa"):
        text, options = split_inlined(qa)
        meta = verbatim(qa, text, options)
        questions.append(Question(qa.id("uid"), text, options, _letter(qa, options), "", _groups(qa, kind), meta))
    return VideoQuestions(Video(key, _video_path(files, key), duration_s=_duration_s(row)), tuple(questions))


def _duration_s(row: Row) -> float | None:
    info = row.get("video_info", {})
    if not isinstance(info, dict):
        raise row.error("video_info", f"expected an object, found {shown(info)}")
    minutes = Row(info, row.path, row.number).seconds("duration_minutes")
    return 60.0 * minutes if minutes else None


def _from_flat(row: Row, files: VideoFiles, number: str) -> VideoQuestions:
    """A row of lmms-eval's copy (`video_path`, options in the question or beside it, a letter) or of Video-XL-2's and
    VideoChat-Flash's (`video`, `candidates` with their letters, the right candidate as answer). `number`: its id where
    it has none."""
    named = row.file_name("video_path" if "video_path" in row.values else "video", ".mp4")
    name = named.rpartition("/")[2]
    key = name.rpartition(".")[0] if name.endswith(_SUFFIXES) else name
    meta = {}
    if "candidates" in row.values:
        text, options = row.text("question"), _unlettered(row)
    elif row.get("options"):
        text, options = row.text("question"), row.options("options")
    else:
        text, options = split_inlined(row)
        meta = verbatim(row, text, options)
    id = number if row.get("uid") is None else row.id("uid")
    groups = _groups(row, row.text_or("type", ""))
    question = Question(id, text, options, _letter(row, options), groups=groups, meta=meta)
    return VideoQuestions(Video(key, _video_path(files, key, named)), (question,))


def _unlettered(row: Row) -> tuple[str, ...]:
    candidates = row.options("candidates")
    for letter, candidate in zip(LETTERS, candidates, strict=False):
        if not candidate.startswith(f"({letter}) "):
            raise row.error("candidates", f"expected ({letter}) and a blank before {candidate!r}")
    return tuple(candidate[4:] for candidate in candidates)


def _letter(row: Row, options: Sequence[str]) -> str:
    """The right letter: as given, or that of the first candidate equal to the answer."""
    answer = row.text("answer")
    if "candidates" in row.values:
        candidates = row.texts("candidates")
        if letter := letter_of(candidates, answer):
            return letter
    if len(answer) == 1 and answer in LETTERS[: len(options)]:
        return answer
    raise row.error("answer", f"{answer!r} is neither a letter nor one of the options")


def _groups(row: Row, kind: str) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {"clue": (clue_length(row.get("time_reference")),)}
    if kind:
        groups["type"] = (kind,)
    if row.get("question_type"):
        capabilities = row.texts("question_type")
        groups |= {"capability": capabilities, "first_capability": capabilities[:1]}
    return groups


def clue_length(reference: Any) -> str:
    """A label for the length of the part of the video with the answer, `mm:ss-mm:ss`. "unknown" if it is missing or
    ends before it starts, as in a few rows."""
    match = _TIME.fullmatch(reference) if isinstance(reference, str) else None
    if match is None:
        return "unknown"
    start_m, start_s, end_m, end_s = map(int, match.groups())
    seconds = 60 * (end_m - start_m) + end_s - start_s
    if seconds < 0:
        return "unknown"
    return next((label for limit, label in _CLUES if seconds <= limit), "over 600 s")


_CLUES = ((10, "0-10 s"), (60, "10-60 s"), (600, "60-600 s"))
_SUFFIXES = (".mp4", ".mkv", ".webm")


_FOLDERS = ("videos/", "", "video_chunks/", "scripts/videos/")
"""The official script downloads to scripts/videos; the archives of the hub's copy hold the videos without folders."""


def _video_path(files: VideoFiles, key: str, *named: str) -> Path:
    return files.find(*(f"{folder}{key}{suffix}" for folder in _FOLDERS for suffix in _SUFFIXES), *named)
