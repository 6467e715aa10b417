"""The benchmark extension point.

A benchmark is one file in `tasks/`: a dataclass that names its splits, its protocols and how its rows are read. A
*protocol* is one published way to ask and to score: it fixes prompt, token generation, grader, scoring unit and
metrics. Every score is reported with the name of its protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from evalkit.errors import ConfigError, DataError, suggest
from evalkit.scoring.grade import Grader, answer_kind, gold_problem, grade_reply
from evalkit.scoring.reasoning import ReplyFilter, as_is, strip_reasoning
from evalkit.scoring.summary import Mean, Scores, summarize
from evalkit.scoring.units import EACH, Unit
from evalkit.types import (
    Context,
    Cue,
    Decoding,
    FramePlan,
    FrameStream,
    Grade,
    Prompt,
    Question,
    Record,
    VideoQuestions,
)

PromptText = Callable[[VideoQuestions, Question, FramePlan], str]
Cues = Callable[[VideoQuestions, FramePlan], tuple[Cue, ...]]


@dataclass(frozen=True)
class Protocol:
    """One published way to ask and to score a benchmark.

    source: where the protocol is published.
    prompt: makes the user text that follows the video. It gets the frame plan, because some benchmarks show only the
        subtitles at the times of the frames.
    grader: reads and grades a reply.
    metrics: the first is the headline.
    decoding: how tokens are generated.
    system: the system text; None: the model's default.
    answer_prefix: the start of the reply, which the model continues.
    unit: which questions are scored together.
    cues: makes the subtitles between frames, which all questions of the video share.
    clean: what the published pipeline removes from a reply before its grader reads it.
    """

    source: str
    prompt: PromptText
    grader: Grader
    metrics: tuple[Mean, ...] = (Mean("accuracy"),)
    decoding: Decoding = field(default_factory=Decoding)
    system: str | None = None
    answer_prefix: str = ""
    unit: Unit = EACH
    cues: Cues | None = None
    clean: ReplyFilter = as_is


@dataclass(frozen=True)
class Split:
    """A part of a benchmark.

    questions, videos: their number in a complete copy; several where published copies differ; empty: not known.
    hidden: the answers are not public. A run writes a submission file and no score.
    """

    questions: tuple[int, ...] = ()
    videos: tuple[int, ...] = ()
    hidden: bool = False


@dataclass(frozen=True)
class HubData:
    """Where a benchmark's data is on the Hugging Face hub, and where it is unpacked.

    repos: repositories with the same data, in order of preference.
    folder: where the data is unpacked, below evalkit's data folder; other harnesses use it below `$HF_HOME`.
    size_gb: size of the download.
    by_hand: which data the hub does not have, and how to get it.
    revision: branch, tag or commit.
    files: patterns of the files that are downloaded.
    flat: all files of the archives are unpacked into `folder` itself, without the archives' own folders.
    gated: a user must accept the repository's terms on the hub first.
    also: further repositories, unpacked into the same folder.
    """

    repos: tuple[str, ...]
    folder: str
    size_gb: float | None = None
    by_hand: str = ""
    revision: str = "main"
    files: tuple[str, ...] = ("*",)
    flat: bool = False
    gated: bool = False
    also: tuple[HubData, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A copy of a benchmark's data in the folder `root`. `source`: hub, local or mini. `remedy`: what the user can do
    if it is incomplete."""

    root: Path
    source: str = "local"
    remedy: str = "Check the folder."

    @property
    def miniature(self) -> bool:
        """Whether evalkit made it, much smaller than the benchmark."""
        return self.source == "mini"


@dataclass
class Task(ABC):
    """Base of all benchmarks; the fields are the keys of configs/task/<name>.yaml.

    `reasoning`: what cuts a model's reasoning from its replies. `protocol`: the protocol's own reply filter. `evalkit`:
    evalkit's (`scoring/reasoning.py`); the protocol's label then says so.

    Subclasses declare the class variables and `load`; everything else follows from the protocol.
    """

    split: str = ""
    protocol: str = "official"
    reasoning: str = "protocol"
    allow_missing: bool = False

    name: ClassVar[str]
    """Short name, as in `task=<name>`."""
    benchmark: ClassVar[str]
    """Full name, as in every output."""
    splits: ClassVar[Mapping[str, Split]]
    protocols: ClassVar[Mapping[str, Protocol]]
    tables: ClassVar[tuple[str, ...]] = ()
    """The groups of questions that are reported as tables of slices."""
    hub: ClassVar[HubData | None] = None

    def __post_init__(self) -> None:
        self._check_choice("split", self.split, self.splits)
        self._check_choice("protocol", self.protocol, self.available_protocols())
        self._check_choice("reasoning", self.reasoning, ("protocol", "evalkit"))

    def _check_choice(self, key: str, value: str, choices: Iterable[str]) -> None:
        choices = list(choices)
        if value not in choices:
            raise ConfigError(
                f'task.{key}="{value}": {self.benchmark} has no such {key}.{suggest(value, choices)} '
                f"Choose one of: {', '.join(choices)}."
            )

    # What a benchmark defines ------------------------------------------------------------------------------------

    @abstractmethod
    def load(self, root: Path) -> Iterable[VideoQuestions]:
        """Read the split below `root`, in the hub's layout or the official one. One video may be yielded several times
        with some of its questions each; these are merged. Raises DataError naming file, row and column."""

    def make_miniature(self, root: Path) -> None:
        """Write a small version of the benchmark below `root`, in its official layout, with real video files that show
        the answers. Deterministic."""
        raise ConfigError(f"{self.benchmark} has no miniature: use source=hub or source=local.")

    def available_protocols(self) -> Mapping[str, Protocol]:
        """The protocols under the task's settings. Override where they differ by split or by subtitles."""
        return self.protocols

    # What the evaluation loop calls ------------------------------------------------------------------------------

    @cached_property
    def rules(self) -> Protocol:
        """The protocol under the task's settings."""
        rules = self.available_protocols()[self.protocol]
        return rules if self.reasoning == "protocol" else replace(rules, clean=strip_reasoning)

    @property
    def protocol_label(self) -> str:
        """The protocol as outputs name it: with `reasoning`, if that is not the protocol's own."""
        return self.protocol if self.reasoning == "protocol" else f"{self.protocol}, reasoning={self.reasoning}"

    def __getstate__(self) -> dict[str, Any]:
        """For workers elsewhere, which make the rules anew: a judge cannot be sent."""
        return {key: value for key, value in self.__dict__.items() if key != "rules"}

    def incomplete(self) -> Self:
        """The same task, for a copy that may lack questions, videos or readable rows."""
        return replace(self, allow_missing=True)

    def read(self, data: DataSet) -> list[VideoQuestions]:
        """Each video once, with all its questions. Raises DataError where the copy is incomplete, unless the setting
        `allow_missing` allows that."""
        items = merge_by_video(self.load(data.root))
        self._check_questions(items, data)
        if not self.allow_missing:
            self.check_complete(items, data)
        return items

    def context(self, item: VideoQuestions, frames: FrameStream) -> Context:
        """What all questions of the video share: frames, system text, cues."""
        cues = self.rules.cues(item, frames.plan) if self.rules.cues else ()
        return Context(item.video, frames, self.rules.system, cues)

    def prompt(self, item: VideoQuestions, question: Question, plan: FramePlan) -> Prompt:
        """The prompt of a question, byte for byte as the protocol defines it."""
        text = self.rules.prompt(item, question, plan)
        kind = answer_kind(self.rules.grader, question)
        return Prompt(text, self.rules.answer_prefix, question.id, question.text, question.options, kind)

    def grade(self, question: Question, reply: str) -> Grade:
        """Grade a reply under the protocol. Raises for no reply, however malformed."""
        rules = self.rules
        return grade_reply(rules.grader, rules.clean, question, reply)

    def summarize(self, records: Sequence[Record], expected: int | None = None) -> Scores:
        """Headline, slices, n, coverage and intervals of the records of one run."""
        return summarize(
            records,
            self.rules.metrics,
            self.tables,
            unit=self.rules.unit,
            expected=expected,
        )

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """File name -> content of the files to submit to a benchmark's server. `items`: the videos and questions that
        were asked. Default: no files."""
        return {}

    def expected_questions(self) -> int | None:
        """The number of questions of a complete copy; None where unknown."""
        counts = self.splits[self.split].questions
        return max(counts) if counts else None

    def dirty(self, items: Sequence[VideoQuestions]) -> list[str]:
        """The questions that no reply can answer correctly, as `id: reason`. A few benchmarks contain some."""
        questions = (q for item in items for q in item.questions)
        return [f"{q.id}: {why}" for q in questions if (why := gold_problem(self.rules.grader, q))]

    def _check_questions(self, items: Sequence[VideoQuestions], data: DataSet) -> None:
        """The checks that an incomplete copy must pass too."""
        name = f"{self.benchmark} ({self.split})"
        if not items:
            raise DataError(f"{name} has no questions below {data.root}.")
        _check_unique(self.benchmark, items)
        found = sum(len(item.questions) for item in items)
        dirty = self.dirty(items)
        if len(dirty) > max(1, _DIRTY * found):
            raise DataError(f"{name}: {len(dirty)} of {found} questions can have no right answer.{_listed(dirty)}")

    def check_complete(self, items: Sequence[VideoQuestions], data: DataSet) -> None:
        """Raise DataError for missing units, questions or videos; a miniature passes. Override for further checks,
        which then apply to a miniature too."""
        if data.miniature:
            return
        name = f"{self.benchmark} ({self.split})"
        self._check_units(items)
        found = sum(len(item.questions) for item in items)
        counts = self.splits[self.split].questions
        if counts and found not in counts:
            raise DataError(
                f"{name}: {found} questions below {data.root}, a complete copy has {' or '.join(map(str, counts))}. "
                f"{data.remedy} Or set task.allow_missing=true to evaluate what is there (the coverage will say so)."
            )
        missing = sorted({str(item.video.path) for item in items if not item.video.path.exists()})
        if missing:
            videos = len({item.video.path for item in items})
            raise DataError(
                f"{name}: {len(missing)} of {videos} videos are missing:{_listed(missing)}\n{data.remedy} Or set "
                "task.allow_missing=true to go on (their questions are marked and lower the coverage)."
            )

    def _check_units(self, items: Sequence[VideoQuestions]) -> None:
        """Raise DataError for a unit that lacks some of its questions."""
        size = self.rules.unit.size
        sizes = Counter(q.unit for item in items for q in item.questions)
        broken = [f"{unit}: {count} of {size}" for unit, count in sizes.items() if count != size]
        if size > 1 and broken:
            raise DataError(
                f"{self.benchmark} ({self.split}): {len(broken)} of {len(sizes)} units do not have the {size} "
                f"questions that protocol {self.protocol} scores together (Question.unit).{_listed(broken)}"
            )


_DIRTY = 0.02
"""The share of questions that no reply can answer correctly above which the data was probably read wrongly."""


def _listed(lines: Sequence[str], shown: int = 5) -> str:
    return "".join(f"\n  {line}" for line in lines[:shown]) + ("\n  ..." if len(lines) > shown else "")


def merge_by_video(items: Iterable[VideoQuestions]) -> list[VideoQuestions]:
    """Merge the items of one video: same file, start, end and shared context. Items are in order of first appearance,
    and questions keep their order."""
    merged: dict[tuple[object, ...], list[VideoQuestions]] = {}
    for item in items:
        video = item.video
        merged.setdefault((video.path, video.start_s, video.end_s, item.meta.get("context")), []).append(item)
    return [
        VideoQuestions(
            parts[0].video, tuple(q for part in parts for q in part.questions), parts[0].cluster, parts[0].meta
        )
        for parts in merged.values()
    ]


def _check_unique(benchmark: str, items: Sequence[VideoQuestions]) -> None:
    seen: set[str] = set()
    for item in items:
        for question in item.questions:
            if question.id in seen:
                raise DataError(f'{benchmark}: two questions have the id "{question.id}" (video {item.video.path}).')
            seen.add(question.id)
