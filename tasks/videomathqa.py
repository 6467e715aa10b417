"""VideoMathQA: mathematical reasoning in educational videos (arXiv 2506.05349).

Repository: github.com/mbzuai-oryx/VideoMathQA, which evaluates with lmms-eval. Data: MBZUAI/VideoMathQA on the Hugging
Face hub. Two splits: `mcq` with five options, and `mbin`, which asks each question four times, the right option against
one wrong one, and counts it if all four are right. The eight tasks of lmms-eval are {mcq, mbin} x {official, cot} x
{without, with subtitles}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from evalkit.errors import DataError
from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice, Grader
from evalkit.scoring.reasoning import lmms_eval, strip_reasoning
from evalkit.scoring.summary import Mean
from evalkit.scoring.units import EACH, all_of
from evalkit.tables import Row, read_rows, read_table
from evalkit.task import DataSet, HubData, PromptText, Protocol, Split, Task
from evalkit.types import Context, Decoding, FramePlan, FrameStream, Question, Video, VideoQuestions

from ._judge import JudgeConfig
from ._subtitles import read_srt, spoken_as_lmms_eval
from ._videomathqa_judge import ChainOfThought

_LENGTHS = ("short", "medium", "long")
_LETTERS = {5: "A, B, C, D or E", 2: "A or B"}


def _head(q: Question, shown: str) -> str:
    return (
        f"Select the best answer to the following multiple-choice question based on the {shown}. Respond with the "
        f"letter ({_LETTERS[len(q.options)]}) of the correct option.\n{q.text}\n" + "\n".join(q.options) + "\n"
    )


def _directly(q: Question) -> str:
    return f"\nAnswer with the option's letter ({_LETTERS[len(q.options)]}) from the given choices directly."


def _step_by_step(q: Question) -> str:
    return (
        "First please perform reasoning, and think step by step to provide best answer to the following question with "
        f"the option's letter ({_LETTERS[len(q.options)]}) from the given choices."
    )


def _subtitles(item: VideoQuestions, plan: FramePlan) -> str:
    """The lines spoken while a frame was taken that the model reads."""
    subtitle_text = "No subtitles available"
    if (path := _srt(item)) is not None:
        subtitle_text = "\n".join(line.text for line in spoken_as_lmms_eval(read_srt(path), plan))
    return f"This video's subtitles are listed below: \n{subtitle_text}\n"


def _srt(item: VideoQuestions) -> Path | None:
    path = item.video.subtitles
    return path if path is not None and path.is_file() else None


def _direct(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return _head(q, "video") + _directly(q)


def _direct_subtitles(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return _subtitles(item, plan) + _head(q, "video and the subtitles") + _directly(q)


def _cot(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return _head(q, "video") + _step_by_step(q)


def _cot_subtitles(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return _subtitles(item, plan) + _head(q, "video and the subtitles") + _step_by_step(q)


_WITH_SUBTITLES: dict[PromptText, PromptText] = {_direct: _direct_subtitles, _cot: _cot_subtitles}
_SOURCE = "github.com/EvolvingLMMs-Lab/lmms-eval, tasks/videomathqa"
_SHORT, _LONG = Decoding(max_new_tokens=16), Decoding(max_new_tokens=8096)
_FIRST_LETTER = Choice("video_mme", letters="ABCDE")  # also with two options, where a C is read, and is wrong


@dataclass
class VideoMathQA(Task):
    """`subtitles`: show those spoken during the frames that are read. `judge`: for protocol cot, reads the option and
    scores the steps."""

    split: str = "mcq"
    subtitles: bool = False
    judge: JudgeConfig = field(default_factory=lambda: JudgeConfig(max_tokens=32768))

    name = "videomathqa"
    benchmark = "VideoMathQA"
    splits: ClassVar = {"mcq": Split(questions=(420,)), "mbin": Split(questions=(1680,))}
    tables = ("length", "category")
    hub = HubData(("MBZUAI/VideoMathQA",), "videomathqa", size_gb=14.9)
    protocols: ClassVar = {
        "official": Protocol(
            source=f"{_SOURCE}, videomathqa_{{mcq,mbin}}",
            prompt=_direct,
            grader=_FIRST_LETTER,
            decoding=_SHORT,
            clean=lmms_eval,
        ),
        "lmms_eval": Protocol(
            source=f"{_SOURCE}: the same, as the benchmark evaluates with lmms-eval",
            prompt=_direct,
            grader=_FIRST_LETTER,
            decoding=_SHORT,
            clean=lmms_eval,
        ),
        "cot": Protocol(
            source=f"{_SOURCE}, videomathqa_{{mcq,mbin}}_cot and its post-processing by a judge",
            prompt=_cot,
            grader=_FIRST_LETTER,  # `_as_set` puts the judge here, which depends on the settings
            decoding=_LONG,
        ),
        "cot_tolerant": Protocol(
            source="evalkit: the prompts of cot, and a letter that is read without a judge",
            prompt=_cot,
            grader=Choice("tolerant", letters="ABCDE", markers=True),
            decoding=_LONG,
            clean=strip_reasoning,
        ),
        "lmms_eval_cot": Protocol(
            source=f"{_SOURCE}, videomathqa_{{mcq,mbin}}_cot as lmms-eval prints it, before the post-processing: the "
            "first capital letter of the reply",
            prompt=_cot,
            grader=_FIRST_LETTER,
            decoding=_LONG,
            clean=lmms_eval,
        ),
    }

    def available_protocols(self) -> Mapping[str, Protocol]:
        return {name: self._as_set(name, rules) for name, rules in self.protocols.items()}

    def _as_set(self, name: str, rules: Protocol) -> Protocol:
        """The protocol for these settings: prompt and metrics with or without subtitles, the split's unit, judge."""
        shown = "subtitles" if self.subtitles else "no subtitles"
        metrics, unit = [Mean(f"accuracy ({shown})")], EACH
        if self.split == "mbin":
            metrics, unit = [*metrics, Mean(f"single questions ({shown})", unit=EACH)], all_of(4)
        grader: Grader = rules.grader
        if name == "cot":
            mcq = self.split == "mcq"
            grader = ChainOfThought("ABCDE" if mcq else "AB", mcq, self.judge.judge())
            if mcq:
                metrics += [
                    Mean(f"steps ({shown})", "steps", scale=1.0),
                    Mean("unreadable score cards", "unreadable"),
                ]
        prompt = _WITH_SUBTITLES[rules.prompt] if self.subtitles else rules.prompt
        return replace(rules, prompt=prompt, grader=grader, metrics=tuple(metrics), unit=unit)

    def make_miniature(self, root: Path) -> None:
        from ._mini.videomathqa import write

        write(root)

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files, asked = VideoFiles(root), Counter[str]()

        def read(row: Row) -> VideoQuestions:
            id = row.id("question_id")
            asked[id] += 1
            return _item(row, files, id if self.split == "mcq" else f"{id}_{asked[id] - 1}", unit=id)

        rows = (row for table in self._tables(root) for row in read_table(table))
        yield from read_rows(rows, read, self.allow_missing)

    def _tables(self, root: Path) -> list[Path]:
        """`videomathqa_<split>_test.parquet` of the hub, or files in a folder called like its configuration."""
        names = {"mcq": ("mcq",), "mbin": ("mbin", "multi_binary")}[self.split]
        places = (
            "videomathqa_{0}_test.{1}",
            "{0}/test*.{1}",
            "{0}/*.{1}",
            "data/{0}/*.{1}",
            "data/{0}*.{1}",
            "{0}.{1}",
        )
        kinds = ("parquet", "jsonl", "json")
        named = [place.format(name, kind) for place in places for name in names for kind in kinds]
        tables = find_tables(root, named) or cached_tables(root, self.hub, named, "test", names[-1])
        if not tables:
            raise no_tables(root, f"{self.benchmark} ({self.split})", named[0], "videos/<videoID>.mp4")
        return tables

    def check_complete(self, items: Sequence[VideoQuestions], data: DataSet) -> None:
        self._check_fours(items)
        super().check_complete(items, data)
        self._check_subtitles(items)

    def _check_fours(self, items: Sequence[VideoQuestions]) -> None:
        """Raises DataError if a question does not have its four rows; it would count as wrong."""
        if self.split != "mbin":
            return
        sizes: dict[str, int] = {}
        for question in (question for item in items for question in item.questions):
            sizes[question.unit] = sizes.get(question.unit, 0) + 1
        if odd := {unit: size for unit, size in sizes.items() if size != 4}:
            unit, size = next(iter(odd.items()))
            raise DataError(
                f"{self.benchmark} (mbin): {len(odd)} questions have not four rows; question_id {unit} has {size}. Get "
                "the data again, or set task.allow_missing=true to go on (they count as wrong)."
            )

    def _check_subtitles(self, items: Sequence[VideoQuestions]) -> None:
        if self.subtitles and all(_srt(item) is None for item in items):
            raise DataError(
                f"{self.benchmark}: no video has a subtitle file, {items[0].video.subtitles} for one. Unpack the "
                "subtitles, set task.subtitles=false, or task.allow_missing=true to go on."
            )

    def context(self, item: VideoQuestions, frames: FrameStream) -> Context:
        if self.subtitles and (path := _srt(item)):
            read_srt(path)  # if they cannot be read, the video fails here, before the prefill
        return super().context(item, frames)


def _item(row: Row, files: VideoFiles, id: str, unit: str) -> VideoQuestions:
    options, answer, length = row.options("options"), row.text("answer"), row.text("length")
    if len(options) not in _LETTERS:
        raise row.error("options", f"expected five or two options, found {len(options)}")
    if len(answer) != 1 or answer not in "ABCDE"[: len(options)]:
        raise row.error("answer", f"expected one of {_LETTERS[len(options)]}, found {answer!r}")
    if length not in _LENGTHS:
        raise row.error("length", f"expected one of {', '.join(_LENGTHS)}, found {length!r}")
    groups = {"length": (length,), "category": (row.text("category"),)}
    steps = row.get("steps", "")
    question = Question(id, row.text("question"), options, answer, unit, groups, {"steps": steps})
    stem = row.file_name("videoID", ".mp4")
    path = files.find(*(f"videos/{stem}{suffix}" for suffix in (".mp4", ".MP4", ".mkv")))
    video = Video(stem, path, subtitles=files.at(f"subtitles/{stem}.srt"))
    return VideoQuestions(video, (question,))
