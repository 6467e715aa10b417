"""Video needle in a haystack: a long video, one picture put among its frames, a question about the picture.

The grid is frames x depth: `frames` of the haystack are read, and the picture stands behind the share `depth` of them.
Three published versions, told apart by their needles' layout and chosen by the protocol: LongVA's V-NIAH (arXiv
2406.16852, huggingface.co/datasets/lmms-lab/v_niah_needles), Video-XL's (github.com/VectorSpaceLab/Video-XL, NIAH) and
VideoChat-Flash's (github.com/OpenGVLab/VideoChat-Flash, xtuner-eval_niah). None hands out its movie: bring your own.

Some needles can be guessed, so each column of the grid has a control: the same frames without the picture.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from evalkit.errors import ConfigError, DataError
from evalkit.scoring.extract import extractor
from evalkit.scoring.grade import Choice
from evalkit.scoring.summary import Mean
from evalkit.tables import read_table
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Composite, Decoding, FramePlan, Grade, Question, Record, Video, VideoQuestions

from ._niah_needles import Needle, read_needles

CONTROL = "no needle"
_METRICS = (
    Mean("accuracy", over="cell", where=("needle", "inserted")),
    Mean(CONTROL, where=("needle", "absent")),
)
_TOLERANT = Mean("accuracy, tolerant", "tolerant", over="cell", where=("needle", "inserted"))


class Grid(NamedTuple):
    """`rule`: which frames of the haystack (evalkit.video.sampling)."""

    frames: tuple[int, ...]
    depths: tuple[float, ...]
    rule: str


_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
GRIDS = {
    "official": Grid(tuple(range(200, 3001, 200)), _FIFTHS, "haystack"),
    "video_xl": Grid(
        (1, 187, 373, 559, 745, 931, 1118, 1304, 1490, 1676, 1862, 2048), (0.0, 0.25, 0.5, 0.75, 1.0), "uniform"
    ),
    "videochat_flash": Grid(tuple(range(1000, 10001, 1000)), _FIFTHS, "haystack"),
}


def _verbatim(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return q.text


def _video_xl(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"Question: {q.text}\nAnswer: "


@dataclass(frozen=True)
class Begins:
    """Right if the reply begins with the answer. The published scorers feed the answer to the model and require that it
    would have generated each of its tokens; under greedy token generation that is the same.

    `loose`: case and parentheses do not matter. The value `tolerant` also takes an answer from inside a sentence.
    """

    loose: bool = False

    def grade(self, question: Question, reply: str) -> Grade:
        gold = str(question.gold)
        text = reply.lstrip()
        if self.loose:
            text, wanted = text.lower().replace("(", "").replace(")", ""), gold.lower()
        else:
            wanted = gold
        rest = text[len(wanted) : len(wanted) + 1]
        goes_on = rest.isdigit() if wanted[-1:].isdigit() else rest.isalpha()  # "Both" is not B, "200mg" is 200
        right = text.startswith(wanted) and not goes_on
        return Grade(
            score=float(right),
            extracted=gold if right else next(iter(text.split()), None),
            rule="begins with the answer",
            valid=bool(text),
            values={"tolerant": float(right or _named(question, gold, reply))},
        )


def _named(question: Question, gold: str, reply: str) -> bool:
    if len(gold) == 1:
        return extractor("tolerant").extract(reply, question.options, question.id).value == gold
    return re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", reply, re.IGNORECASE) is not None


@dataclass
class NIAH(Task):
    """`haystack`: the video; null: the one below the root. `frames`, `depths`: the grid; null: the protocol's.
    `control`: also ask without the picture."""

    split: str = "test"
    haystack: str | None = None
    frames: list[int] | None = None
    depths: list[float] | None = None
    control: bool = True

    name = "niah"
    benchmark = "Video needle in a haystack"
    splits: ClassVar = {"test": Split()}
    tables = ("frames", "depth", "cell", "question")
    hub = HubData(
        ("lmms-lab/v_niah_needles",),
        "v_niah",
        size_gb=0.02,
        files=("data/*",),
        by_hand="a haystack: any video longer than an hour, saved as haystack.mp4 beside the needles.",
    )
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/EvolvingLMMs-Lab/LongVA, vision_niah",
            prompt=_verbatim,
            grader=Begins(),
            metrics=(*_METRICS, _TOLERANT),
            decoding=Decoding(max_new_tokens=16),
        ),
        "video_xl": Protocol(
            source="github.com/VectorSpaceLab/Video-XL, NIAH",
            prompt=_video_xl,
            grader=Choice("needle"),
            metrics=_METRICS,
            decoding=Decoding(max_new_tokens=1024),
            answer_prefix="Best option:(",
        ),
        "videochat_flash": Protocol(
            source="github.com/OpenGVLab/VideoChat-Flash, xtuner-eval_niah, single hop; beyond 7,500 frames its "
            "haystack is half as many frames twice, here the video goes on",
            prompt=_verbatim,
            grader=Begins(loose=True),
            metrics=(*_METRICS, _TOLERANT),
            decoding=Decoding(max_new_tokens=16),
        ),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for frames in self.frames or ():
            if frames < 1:
                raise ConfigError(f"task.frames has {frames}; a haystack has at least 1 frame.")
        for depth in self.depths or ():
            if not 0 <= depth <= 1:
                raise ConfigError(f"task.depths has {depth:g}; a depth is a share of the haystack, from 0 to 1.")
        for key, values in (("frames", self.frames), ("depths", self.depths)):
            if values is not None and not values:
                raise ConfigError(f"task.{key} is empty: give its values, or leave it null for the protocol's.")
            if values is not None and len(set(values)) < len(values):
                raise ConfigError(f"task.{key} names a value twice: {values}.")

    def grid(self, root: Path) -> Grid:
        """As set, else as grid.json in the data has it (a miniature's does), else the protocol's."""
        published = GRIDS[self.protocol]
        frames, depths = published.frames, published.depths
        if (own := root / "grid.json").is_file():
            (row,) = read_table(own)
            frames, depths = row.values["frames"], row.values["depths"]
        return Grid(tuple(self.frames or frames), tuple(self.depths or depths), published.rule)

    def make_miniature(self, root: Path) -> None:
        from ._mini.niah import write

        write(root)

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        needles, haystack = read_needles(root, self.hub), self._haystack(root)
        self._check_answers(needles, root)
        grid = self.grid(root)
        for frames in grid.frames:
            for depth in grid.depths:
                for needle in needles:
                    composite = Composite(grid.rule, frames, needle.image, depth)
                    yield _item(haystack, composite, f"{frames}-{depth:g}", needle)
            for needle in needles if self.control else ():
                yield _item(haystack, Composite(grid.rule, frames), f"{frames}-none", needle)

    def _check_answers(self, needles: Sequence[Needle], root: Path) -> None:
        words = [needle.answer for needle in needles if len(needle.answer) > 1]
        if words and isinstance(self.rules.grader, Choice):
            raise DataError(
                f'{root}: task.protocol={self.protocol} reads option letters, and there are answers like "{words[0]}". '
                "Choose task.protocol=official."
            )

    def _haystack(self, root: Path) -> Path:
        if self.haystack:
            return Path(self.haystack).expanduser()
        found = sorted(path for place in _HAYSTACKS for path in root.glob(place) if path.suffix in _SUFFIXES)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(path.relative_to(root)) for path in found)
            raise DataError(f"{root} holds several haystacks ({names}): choose one with task.haystack=<file>.")
        raise DataError(
            f"{root} holds no haystack: save a video of at least {max(self.grid(root).frames)} s as "
            f"{root / 'haystack.mp4'}, or name one with task.haystack=<file>. "
            "The published tests used movies that they may not hand out."
        )

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """heatmap.csv: mean score (0 to 100) by depth and frames, with the control as the last row."""
        cells: dict[tuple[str, str], list[float]] = {}
        for record in records:
            score = record.score if record.status == "ok" else 0.0
            cells.setdefault((record.groups["depth"][0], record.groups["frames"][0]), []).append(score or 0.0)
        depths = sorted({depth for depth, _ in cells}, key=lambda d: (d == CONTROL, d))
        frames = sorted({count for _, count in cells}, key=int)
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["depth", *frames])
        for depth in depths:
            row = [cells.get((depth, count)) for count in frames]
            table.writerow([depth, *("" if not scores else f"{100 * sum(scores) / len(scores):g}" for scores in row)])
        return {"heatmap.csv": file.getvalue()}


_HAYSTACKS = ("haystack*", "haystack_videos/*", "data/haystack_videos/*", "data/long_video.*", "long_video.*")
_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def _item(haystack: Path, composite: Composite, cell: str, needle: Needle) -> VideoQuestions:
    """One needle in one cell. All controls of a column share a video, because their frames are the same."""
    inserted = composite.image is not None
    place = f"{haystack.stem}/{cell}/{needle.id}" if inserted else f"{haystack.stem}/{cell}"
    depth = f"{composite.depth:g}" if inserted else CONTROL
    groups = {
        "frames": (str(composite.frames),),
        "depth": (depth,),
        "cell": (f"{composite.frames} frames, {depth}",),
        "question": (needle.id,),
        "needle": ("inserted" if inserted else "absent",),
    }
    question = Question(f"{cell}-{needle.id}", needle.question, gold=needle.answer, groups=groups)
    cluster = needle.id if inserted else place
    return VideoQuestions(Video(place, haystack, composite=composite), (question,), cluster, meta={"context": place})
