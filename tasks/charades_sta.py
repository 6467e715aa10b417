"""Charades-STA: temporal grounding of sentences in videos of daily activities (TALL, arXiv 1705.02101).

Repository: github.com/jiyanggao/TALL. Data: huggingface.co/datasets/lmms-lab/charades_sta; videos: Charades v1 (AI2).
The benchmark defines R@1 at an IoU, not how a language model is asked or read, and both move the score by tens of
points: so there is no protocol `official`. `tolerant` asks as lmms-eval does and reads any form of a span; compare
models by it, and with a published number by the protocol that made it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from evalkit.errors import DataError
from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Span
from evalkit.scoring.reasoning import lmms_eval, strip_reasoning, stripped
from evalkit.scoring.summary import Mean, Scores, summarize
from evalkit.tables import Row, read_json, read_rows, read_table, readable, shown
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Record, Video, VideoQuestions

_TIME_R1_FILES = {
    "test": "charades_test.json",
    "train": "charades_train.json",
    "test_ood": "charades_test_ood.json",
    "novel_composition": "novel_composition.json",
    "novel_word": "novel_word.json",
}
_FOLDERS = ("Charades_v1_480/", "Charades_v1/", "videos/", "")
_METRICS = (Mean("mIoU", "iou"), *(Mean(f"R@{t}", f"R@{t}") for t in (0.3, 0.5, 0.7)))
_CLIPPED = Mean("mIoU, gold cut at the video's end", "iou_clip_gold")

_FIND = (
    "Please find the visual event described by a sentence in the video, determining its starting and ending times. The "
    "format should be: 'The event happens in the start time - end time'. For example, The event 'person turn a light "
    "on' happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence: {}. Please return its start time "
    "and end time."
)  # the typo is published; the example is an item of the test split
_PINPOINT = (
    'To accurately pinpoint the event "{}" in the video, determine the precise time period of the event.\n\nOutput '
    "your thought process within the <think> </think> tags, including analysis with either specific timestamps (xx.xx) "
    "or time ranges (xx.xx to xx.xx) in <timestep> </timestep> tags.\n\nThen, provide the start and end times (in "
    'seconds, precise to two decimal places) in the format "start time to end time" within the <answer> </answer> '
    'tags. For example: "12.54 to 17.83".'
)


def _find(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return _FIND.format(q.text)


def _timesuite(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return "You are given a video from the charades dataset. " + _FIND.format(q.text.strip("."))


def _time_r1(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return _PINPOINT.format(q.text)


@dataclass
class CharadesSTA(Task):
    split: str = "test"
    protocol: str = "lmms_eval"

    name = "charades_sta"
    benchmark = "Charades-STA"
    splits: ClassVar = {
        "test": Split(questions=(3720,), videos=(1334,)),
        "train": Split(questions=(12408,)),
        "test_ood": Split(),
        "novel_composition": Split(),
        "novel_word": Split(),
    }
    tables = ("gold_length", "gold_position")
    hub = HubData(("lmms-eval/charades_sta", "lmms-lab/charades_sta"), "charades_sta", size_gb=16.4)
    protocols: ClassVar = {
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/charades_sta (2026)",
            prompt=_find,
            grader=Span("lmms_eval"),
            clean=lmms_eval,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "lmms_eval_offline": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/charades_sta/eval_tvg.py, its older script",
            prompt=_find,
            grader=Span("lmms_eval_offline"),
            clean=stripped,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "tolerant": Protocol(
            source="evalkit: the prompt of lmms-eval, and a span in any form",
            prompt=_find,
            grader=Span("tolerant"),
            clean=strip_reasoning,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "videochat_flash": Protocol(
            source="github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat, tasks/temporal_grounding",
            prompt=_find,
            grader=Span("videochat_flash"),
            clean=stripped,
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "timesuite": Protocol(
            source="github.com/OpenGVLab/TimeSuite, eval/eval_infer.py; prompt of github.com/RenShuhuai-Andy/TimeChat",
            prompt=_timesuite,
            grader=Span("timesuite"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=512),
        ),
        "time_r1": Protocol(
            source="github.com/www-Ye/Time-R1, evaluate.py",
            prompt=_time_r1,
            grader=Span("time_r1"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=2048),
        ),
    }

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files, seen = VideoFiles(root), Counter[str]()
        durations = dict(read_rows(_duration_rows(root, self.split), _duration, self.allow_missing))

        def read(row: Row) -> VideoQuestions:
            video = row.file_name("video").removesuffix(".mp4")
            seen[video] += 1
            duration_s = row.seconds("duration")
            duration_s = durations.get(video) if duration_s is None else duration_s
            return _item(row, files, video, f"{video}_{seen[video] - 1}", duration_s)

        yield from read_rows(self._rows(root), read, self.allow_missing)

    def _rows(self, root: Path) -> Iterable[Row]:
        """Rows with `video`, `caption` and `timestamp`, from the published form that is there."""
        split = self.split
        plain, coco, time_r1 = f"charades_sta_{split}.txt", f"{split}.caption_coco_format.json", _TIME_R1_FILES[split]
        hub = (f"data/{split}-*.parquet", f"{split}-*.parquet", f"*/{split}-*.parquet")
        if tables := find_tables(root, (plain,)):
            return _from_lines(tables[0])
        if tables := find_tables(root, hub):
            return [row for table in tables for row in read_table(table)]
        if tables := find_tables(root, (coco,)):
            return _from_coco(tables[0])
        if tables := find_tables(root, (time_r1,)):
            return _from_time_r1(tables[0])
        if tables := cached_tables(root, self.hub, hub, split):
            return [row for table in tables for row in read_table(table)]
        expected = f"{plain}, data/{split}-00000-of-00001.parquet, {coco} or {time_r1}"
        raise no_tables(root, f"{self.benchmark} ({split})", expected, f"{_FOLDERS[0]}<video>.mp4")

    def summarize(self, records: Sequence[Record], expected: int | None = None) -> Scores:
        """If all durations are known, also the mean IoU with the gold spans cut at the end of their video: 562 of the
        test split end later, where no prediction inside the video can reach them."""
        answered = [record for record in records if record.status == "ok"]
        known = answered and all("iou_clip_gold" in record.values for record in answered)
        metrics = (*self.rules.metrics, _CLIPPED) if known else self.rules.metrics
        return summarize(records, metrics, self.tables, expected=expected or self.expected_questions())

    def make_miniature(self, root: Path) -> None:
        from ._mini.charades_sta import write

        write(root)


def _from_lines(path: Path) -> Iterator[Row]:
    """`<video> <start> <end>##<sentence>`"""
    with readable(path):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            where, hashes, sentence = line.partition("##")
            values = where.split()
            if len(values) == 3 and hashes:
                yield Row({"video": values[0], "caption": sentence, "timestamp": values[1:]}, path, number)
            else:
                yield Row({}, path, number, f"expected <video> <start> <end>##<sentence>, found {shown(line)}")


def _from_coco(path: Path) -> Iterator[Row]:
    """`{"annotations": [{"image_id", "caption", "timestamp", "id"}]}` (TimeChat, TimeSuite)"""
    entries = _object(path)["annotations"]
    if not isinstance(entries, list):
        raise DataError(f'{path}: expected a list as "annotations", found {shown(entries)}.')
    for number, entry in enumerate(entries, 1):
        row = _row(entry, path, number)
        missing = "" if "image_id" in row.values else 'there is no column "image_id"'
        yield Row({**row.values, "video": row.get("image_id")}, path, number, row.problem or missing)


def _from_time_r1(path: Path) -> Iterator[Row]:
    """`{video: {"duration", "timestamps": [...], "sentences": [...]}}`"""
    for number, (video, entry) in enumerate(_object(path).values.items(), 1):
        row = _row(entry, path, number)
        sentences, spans = row.get("sentences"), row.get("timestamps")
        if isinstance(sentences, list) and isinstance(spans, list) and len(sentences) == len(spans):
            duration = row.get("duration", row.get("video_duration"))
            for sentence, span in zip(sentences, spans, strict=True):
                values = {"video": video, "caption": sentence, "timestamp": span, "duration": duration}
                yield Row(values, path, number)
        else:
            expected = "expected lists of one length, timestamps and sentences"
            yield Row({}, path, number, row.problem or f"{shown(video)}: {expected}, found {shown(entry)}")


def _object(path: Path) -> Row:
    """The one object that the file holds."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object, found {shown(content)}.")
    return Row(content, path, 1)


def _row(values: Any, path: Path, number: int) -> Row:
    if isinstance(values, dict):
        return Row(values, path, number)
    return Row({}, path, number, f"expected an object, found {shown(values)}")


def _duration_rows(root: Path, split: str) -> list[Row]:
    """The table that comes with the Charades videos; no rows without it."""
    tables = find_tables(root, (f"Charades_v1_{'train' if split == 'train' else 'test'}.csv",))
    return [row for table in tables for row in read_table(table)]


def _duration(row: Row) -> tuple[str, float]:
    """Video and seconds."""
    return row.text("id"), _numbers(row, "length", [row.text("length")])[0]


def _numbers(row: Row, column: str, values: Sequence[Any]) -> list[float]:
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != len(values) or not all(map(isfinite, numbers)):
        raise row.error(column, f"expected numbers, found {shown(values)}")
    return numbers


def _item(row: Row, files: VideoFiles, video: str, id: str, duration_s: float | None) -> VideoQuestions:
    gold = _span(row)
    meta = {} if duration_s is None else {"duration_s": duration_s}
    groups = {"gold_length": (_length(gold[1] - gold[0]),)}
    if duration_s:
        groups["gold_position"] = (_third((gold[0] + gold[1]) / 2 / duration_s),)
    path = files.find(*(f"{folder}{video}.mp4" for folder in _FOLDERS))
    question = Question(id, row.text("caption"), gold=gold, groups=groups, meta=meta)
    return VideoQuestions(Video(video, path, duration_s=duration_s), (question,))


def _span(row: Row) -> tuple[float, float]:
    """The span as annotated, also if it ends after the video. The hub's copy has it in half precision."""
    span = row["timestamp"]
    if not isinstance(span, list | tuple) or len(span) != 2:
        raise row.error("timestamp", f"expected [start, end], found {shown(span)}")
    start, end = _numbers(row, "timestamp", span)
    return start, end


def _length(seconds: float) -> str:
    return "under 5 s" if seconds < 5 else "5 to 10 s" if seconds < 10 else "10 s and more"


def _third(share: float) -> str:
    return "first third" if share < 1 / 3 else "middle third" if share < 2 / 3 else "last third"
