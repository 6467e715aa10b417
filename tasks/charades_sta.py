"""Charades-STA: temporal grounding of sentences in videos of daily activities (TALL, arXiv 1705.02101).

Repository: github.com/jiyanggao/TALL. Data: huggingface.co/datasets/lmms-lab/charades_sta; videos: Charades v1 (AI2).
The benchmark defines R@1 at an IoU, not how a language model is asked or read, and both move the score by tens of
points: so there is no protocol `official`. `tolerant` asks as lmms-eval does and reads any form of a span; compare
models by it, and with a published number by the protocol that made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evalkit.errors import DataError
from evalkit.scoring.grade import Span
from evalkit.scoring.summary import Mean, Scores, summarize
from evalkit.tables import Row, read_table
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Record, Video, VideoQuestions

from ._shared import first_existing

_TIME_R1_FILES = {
    "test": "charades_test.json",
    "train": "charades_train.json",
    "test_ood": "charades_test_ood.json",
    "novel_composition": "novel_composition.json",
    "novel_word": "novel_word.json",
}
_FOLDERS = ("Charades_v1_480", "Charades_v1", "videos")
_METRICS = (Mean("mIoU", "iou"), *(Mean(f"R@{t}", f"R@{t}") for t in (0.3, 0.5, 0.7)))
_CLIPPED = Mean("mIoU, gold cut at the video's end", "iou_clip_gold")

_FIND = (
    "Please find the visual event described by a sentence in the video, determining its starting and ending times. The "
    "format should be: 'The event happens in the start time - end time'. For example, The event 'person turn a light "
    "on' happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence: {}. Please return its start time "
    "and end time."
)  # with the typo, and with a real item of the test split as the example
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
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "lmms_eval_offline": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/charades_sta/eval_tvg.py, its older script",
            prompt=_find,
            grader=Span("lmms_eval_offline"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "tolerant": Protocol(
            source="evalkit: the prompt of lmms-eval, and a span in whatever form it comes",
            prompt=_find,
            grader=Span("tolerant"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=50),
        ),
        "videochat_flash": Protocol(
            source="github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat, tasks/temporal_grounding",
            prompt=_find,
            grader=Span("videochat_flash"),
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
            grader=Span("time_r1", reasoning=False),  # reads the last span, wherever it stands
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=2048),
        ),
    }

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        durations = _durations(root, self.split)
        seen: dict[str, int] = {}
        for row in _rows(root, self.split):
            video = row.text("video").removesuffix(".mp4")
            number = seen[video] = seen.get(video, -1) + 1
            yield _clip(row, root, f"{video}_{number}", row.get("duration", durations.get(video)))

    def summarize(self, records: Sequence[Record], expected: int | None = None) -> Scores:
        """Where all durations are known, with the mean IoU against gold spans that end with their video as well: 562
        of the test split's end later, which no prediction inside the video can reach."""
        answered = [record for record in records if record.status == "ok"]
        known = answered and all("iou_clip_gold" in record.values for record in answered)
        metrics = (*self.rules.metrics, _CLIPPED) if known else self.rules.metrics
        return summarize(records, metrics, self.tables, expected=expected or self.expected_questions())

    def make_miniature(self, root: Path) -> None:
        from ._mini.charades_sta import write

        write(root)


def _rows(root: Path, split: str) -> Iterable[Row]:
    """Rows with `video`, `caption` and `timestamp`, whichever of the published forms is there."""
    plain, coco = root / f"charades_sta_{split}.txt", root / f"{split}.caption_coco_format.json"
    if plain.is_file():
        return _from_lines(plain)
    if tables := sorted(root.glob(f"{split}-*.parquet")) or sorted(root.glob(f"*/{split}-*.parquet")):
        return [row for table in tables for row in read_table(table)]
    if coco.is_file():
        return _from_coco(coco)
    if (root / _TIME_R1_FILES[split]).is_file():
        return _from_time_r1(root / _TIME_R1_FILES[split])
    raise DataError(
        f"{root} holds no Charades-STA ({split}): expected {plain.name}, {split}-*.parquet, {coco.name} or "
        f"{_TIME_R1_FILES[split]}."
    )


def _from_lines(path: Path) -> Iterator[Row]:
    """`<video> <start> <end>##<sentence>`"""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            where, hashes, sentence = line.partition("##")
            row = Row({"line": line}, path, number)
            parts = where.split()
            if len(parts) != 3 or not hashes:
                raise row.error("line", f"expected <video> <start> <end>##<sentence>, found {line!r}")
            yield Row(
                {"video": parts[0], "caption": sentence, "timestamp": _numbers(row, "line", parts[1:])}, path, number
            )


def _from_coco(path: Path) -> Iterator[Row]:
    """`{"annotations": [{"image_id", "caption", "timestamp", "id"}]}` (TimeChat, TimeSuite)"""
    for number, entry in enumerate(_row(_json(path), path, 0)["annotations"], 1):
        row = _row(entry, path, number)
        row.values["video"] = row["image_id"]
        yield row


def _from_time_r1(path: Path) -> Iterator[Row]:
    """`{video: {"duration", "timestamps": [...], "sentences": [...]}}`"""
    for number, (video, entry) in enumerate(_row(_json(path), path, 0).values.items(), 1):
        row = _row(entry, path, number)
        sentences, spans = row["sentences"], row["timestamps"]
        if len(sentences) != len(spans):
            raise row.error("timestamps", f"{video} has {len(spans)} of them for {len(sentences)} sentences")
        duration = row.get("duration", row.get("video_duration"))
        for sentence, span in zip(sentences, spans, strict=True):
            values = {"video": video, "caption": sentence, "timestamp": span, "duration": duration}
            yield Row(values, path, number)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}). Is the download complete?") from None


def _row(values: Any, path: Path, number: int) -> Row:
    if not isinstance(values, dict):
        raise DataError(f"{path}, entry {number}: expected an object, found {type(values).__name__}.")
    return Row(dict(values), path, number)


def _durations(root: Path, split: str) -> dict[str, float]:
    """Video -> seconds, from the table that comes with the Charades videos; empty where it is not there."""
    table = root / f"Charades_v1_{'train' if split == 'train' else 'test'}.csv"
    if not table.is_file():
        return {}
    return {row.text("id"): _numbers(row, "length", [row.text("length")])[0] for row in read_table(table)}


def _numbers(row: Row, column: str, values: Sequence[Any]) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        raise row.error(column, f"expected numbers, found {values!r}") from None


def _clip(row: Row, root: Path, id: str, duration_s: float | None) -> VideoQuestions:
    gold = _span(row)
    meta = {} if duration_s is None else {"duration_s": float(duration_s)}
    groups = {"gold_length": (_length(gold[1] - gold[0]),)}
    if duration_s:
        groups["gold_position"] = (_third((gold[0] + gold[1]) / 2 / duration_s),)
    video = row.text("video").removesuffix(".mp4")
    path = first_existing(*(root / folder / f"{video}.mp4" for folder in _FOLDERS), root / f"{video}.mp4")
    question = Question(id, row.text("caption"), gold=gold, groups=groups, meta=meta)
    return VideoQuestions(Video(video, path, duration_s=duration_s), (question,))


def _span(row: Row) -> tuple[float, float]:
    """Kept as annotated, past the video's end as well; the hub's copy holds it in half precision."""
    span = row["timestamp"]
    if not isinstance(span, (list, tuple)) or len(span) != 2:
        raise row.error("timestamp", f"expected [start, end], found {span!r}")
    start, end = _numbers(row, "timestamp", span)
    return start, end


def _length(seconds: float) -> str:
    return "under 5 s" if seconds < 5 else "5 to 10 s" if seconds < 10 else "10 s and more"


def _third(share: float) -> str:
    return "first third" if share < 1 / 3 else "middle third" if share < 2 / 3 else "last third"
