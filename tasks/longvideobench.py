"""LongVideoBench: a benchmark for long-context interleaved video-language understanding (arXiv 2407.15754).

Repository: github.com/longvideobench/LongVideoBench. Data: longvideobench/LongVideoBench on the hub (gated).
Many questions quote the subtitles. Published numbers are with or without them and often do not say which, so here each
metric is named with what the model was shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from evalkit.errors import ConfigError, DataError, suggest
from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import lmms_eval, stripped
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_rows, read_table, shown
from evalkit.task import DataSet, HubData, Protocol, Split, Task
from evalkit.types import Context, Cue, Decoding, FramePlan, FrameStream, Grade, Question, Record, Video, VideoQuestions

from ._longvideobench_subtitles import Subtitles, interleave, read_lines, spread
from ._shared import LETTERS, dotted, lettered

_FILES = {"val": ("lvb_val.json", "validation"), "test": ("lvb_test_wo_gt.json", "test")}
_DIRECTLY = "Answer with the option's letter from the given choices directly."

SHOWN = {"none": "no subtitles", "interleaved": "interleaved subtitles", "text": "subtitles in the prompt"}
"""Setting `subtitles` -> its name in metrics."""


def _official(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"Question: {q.text}\n{dotted(q.options)}\n{_DIRECTLY}"


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{q.text}\n{dotted(q.options)}\n{_DIRECTLY}\n"


def _videochat_flash(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    times_s = spread(
        _subtitles(item).duration_s, most=512
    )  # its own times, not those of the frames that the model reads
    lines = "\n".join(cue.text for cue in interleave(read_lines(_subtitles(item)), times_s))
    options = "\n".join(f"({letter}). {option}" for letter, option in lettered(q.options))
    return (
        f" This video's subtitles are listed below: \n{lines}.\n Select the best answer to the following "
        "multiple-choice question based on the video and the subtitles. Respond with only the letter of the correct "
        f"option.\nQuestion: {q.text}\n{options}\n{_DIRECTLY}\n"
    )


def _cues(item: VideoQuestions, plan: FramePlan) -> tuple[Cue, ...]:
    return interleave(read_lines(_subtitles(item)), plan.times_s)


def _subtitles(item: VideoQuestions) -> Subtitles:
    subtitles = item.meta["context"]
    assert isinstance(subtitles, Subtitles)
    return subtitles


@dataclass(frozen=True)
class _OwnLetters:
    """MMMU's rule with as many letters as the question has options."""

    def grade(self, question: Question, reply: str) -> Grade:
        return Choice("nextqa", letters=LETTERS[: len(question.options)]).grade(question, reply)


def _showing(mode: str, rules: Protocol) -> Protocol:
    metrics = tuple(replace(mean, name=f"{mean.name} ({SHOWN[mode]})") for mean in rules.metrics)
    return replace(rules, metrics=metrics, cues=_cues if mode == "interleaved" else None)


_FIRST_LETTER = Choice("longvideobench", letters="ABCDE", invalid="random")
_ACCURACY = (Mean("accuracy"), Mean("expected accuracy", "expected"), Mean("strict accuracy", "strict"))
"""A reply without a letter gets a drawn one. The three metrics: as drawn, in expectation, and counted as wrong."""

_SHORT = Decoding(max_new_tokens=32)


@dataclass
class LongVideoBench(Task):
    """`subtitles`: none, interleaved or text; null: the protocol's own way."""

    split: str = "val"
    subtitles: str | None = None

    name = "longvideobench"
    benchmark = "LongVideoBench"
    splits: ClassVar = {
        "val": Split(questions=(1337,), videos=(753,)),
        "test": Split(questions=(5341,), videos=(3008,), hidden=True),
    }
    tables = ("duration_group", "category", "level", "topic")
    hub = HubData(
        ("longvideobench/LongVideoBench",),
        "longvideobench",
        size_gb=161.6,
        gated=True,
    )
    modes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "official": ("interleaved", "none"),
        "lmms_eval": ("none", "interleaved"),
        "video_xl_2": ("none",),
        "videochat_flash": ("text",),
    }
    """The ways in which each protocol can show subtitles; the first is its own."""
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/longvideobench/LongVideoBench, longvideobench_dataset.py; draws as in the paper",
            prompt=_official,
            grader=_FIRST_LETTER,
            metrics=_ACCURACY,
            decoding=_SHORT,
        ),
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/longvideobench: val_v; interleaved, val_i",
            prompt=_lmms_eval,
            grader=_FIRST_LETTER,
            metrics=_ACCURACY,
            decoding=_SHORT,
            clean=lmms_eval,
        ),
        "video_xl_2": Protocol(
            source="github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval",
            prompt=_lmms_eval,
            grader=_FIRST_LETTER,
            metrics=_ACCURACY,
            decoding=_SHORT,
            clean=stripped,
        ),
        "videochat_flash": Protocol(
            source="github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat: val_v, which is with subtitles",
            prompt=_videochat_flash,
            grader=_OwnLetters(),
            metrics=_ACCURACY,
            decoding=_SHORT,
            clean=stripped,
        ),
    }

    def __post_init__(self) -> None:
        modes = self.modes.get(self.protocol, ())
        if self.subtitles and modes and self.subtitles not in modes:
            raise ConfigError(
                f"task.subtitles={self.subtitles}: protocol {self.protocol} has no such way to show subtitles."
                f"{suggest(self.subtitles, modes)} It can do: {', '.join(modes)}. Choose one of these, or another "
                "task.protocol."
            )
        super().__post_init__()
        self.subtitles = self.subtitles or modes[0]

    def available_protocols(self) -> Mapping[str, Protocol]:
        """Each with its way to show subtitles, which its metrics name."""
        return {name: _showing(self._mode(name), rules) for name, rules in self.protocols.items()}

    def _mode(self, protocol: str) -> str:
        return self.subtitles if self.subtitles and protocol == self.protocol else self.modes[protocol][0]

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files, hidden = VideoFiles(root), self.splits[self.split].hidden
        rows = (row for table in self._tables(root) for row in read_table(table))
        yield from read_rows(rows, lambda row: _item(row, files, hidden), self.allow_missing)

    def _tables(self, root: Path) -> list[Path]:
        """The annotations as the official JSON file, or as the hub's parquet table."""
        file, stem = _FILES[self.split]
        named = (file, f"{stem}-*.parquet", f"*/{stem}-*.parquet")
        tables = find_tables(root, named) or cached_tables(root, self.hub, named, stem)
        if not tables:
            expected = f"{file} or {stem}-00000-of-00001.parquet"
            raise no_tables(root, f"{self.benchmark} ({self.split})", expected, "videos/<video_path>")
        return tables

    def check_complete(self, items: Sequence[VideoQuestions], data: DataSet) -> None:
        super().check_complete(items, data)
        if self.subtitles != "none":
            self._check_subtitles(items)

    def _check_subtitles(self, items: Sequence[VideoQuestions]) -> None:
        missing = sorted({str(item.video.subtitles) for item in items if not _subtitles(item).path.is_file()})
        if missing:
            raise DataError(
                f"{self.benchmark} ({self.split}): {len(missing)} subtitle files are missing, {missing[0]} among them. "
                f"Unpack subtitles.tar, or set task.subtitles=none with a protocol that does without, or "
                "task.allow_missing=true to go on (the questions are marked and lower the coverage)."
            )

    def context(self, item: VideoQuestions, frames: FrameStream) -> Context:
        if self.subtitles != "none":
            read_lines(_subtitles(item))  # if they cannot be read, the video fails here, before the prefill
        return super().context(item, frames)

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """For the test split: the replies in lmms-eval's file for the leaderboard, and the letters read from them."""
        if not self.splits[self.split].hidden:
            return {}
        answered = [record for record in records if record.reply is not None]
        return {
            "longvideobench_test_for_submission.json": _json({r.question: r.reply for r in answered}),
            "longvideobench_test_letters.json": _json({r.question: r.extracted for r in answered}),
        }

    def make_miniature(self, root: Path) -> None:
        from ._mini.longvideobench import write

        write(root)


def _json(answers: Mapping[str, object]) -> str:
    return json.dumps(answers, ensure_ascii=False, indent=1) + "\n"


def _item(row: Row, files: VideoFiles, hidden: bool) -> VideoQuestions:
    options = _options(row)
    category = row.text("question_category")
    question = Question(
        id=row.id("id"),
        text=row.text("question"),
        options=options,
        gold=None if hidden else _gold(row, options),
        groups={
            "duration_group": (row.id("duration_group"),),
            "category": (category,),
            "level": ("L1-Perception" if "2" in category else "L2-Relation",),  # S2E, ... and SSS, T3O, ...
            "topic": (row.text("topic_category"),),
        },
    )
    lines = row.file_name("subtitle_path")
    stem = lines.removesuffix(".json")
    subtitles = Subtitles(
        files.at(f"subtitles/{lines}", f"subtitles/{stem}_en.json"),  # some copies leave the language out
        _number(row, "starting_timestamp_for_subtitles"),
        _number(row, "duration"),
    )
    name = row.file_name("video_path")
    path = files.find(f"videos/{name}", name)
    video = Video(row.id("video_id"), path, duration_s=row.seconds("duration"), subtitles=subtitles.path)
    return VideoQuestions(video, (question,), meta={"context": subtitles})


def _options(row: Row) -> tuple[str, ...]:
    """`candidates`, or `option0` to `option4`, where "N/A" stands for no option."""
    if "candidates" in row.values:
        options = row.options("candidates")
    else:
        options = tuple(row.text(f"option{i}") for i in range(5))
        while options and options[-1] == "N/A":
            options = options[:-1]
    if not 2 <= len(options) <= 5:
        raise row.error("candidates" if "candidates" in row.values else "option0", "expected two to five options")
    return options


def _gold(row: Row, options: Sequence[str]) -> str:
    choice = row["correct_choice"]
    if isinstance(choice, bool) or not isinstance(choice, int) or not 0 <= choice < len(options):
        raise row.error(
            "correct_choice", f"expected the number of one of {len(options)} options, found {shown(choice)}"
        )
    return LETTERS[choice]


def _number(row: Row, column: str) -> float:
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise row.error(column, f"expected a number, found {shown(value)}")
    return float(value)
