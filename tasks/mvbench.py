"""MVBench: a comprehensive multi-modal video understanding benchmark (arXiv 2311.17005). Twenty tasks of 200 questions.

Repository: github.com/OpenGVLab/Ask-Anything, video_chat2. Data: huggingface.co/datasets/OpenGVLab/MVBench. Its main
branch has whole videos, of which rows with `start` and `end` ask about a part; its branch `video`, which lmms-eval
reads, has these parts cut out already, so nothing must be cut again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, NamedTuple

from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import lmms_eval
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_rows, read_table
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Grade, Question, Video, VideoQuestions

from ._shared import LETTERS, letter_of, parenthesised


class _Place(NamedTuple):
    """The folder of a task's videos. `branch`: the folder in the branch `video`, if it differs. `cut`: a question is
    about the part from `start` to `end`, which that branch has as a file. Other tasks ignore these columns."""

    whole: str
    branch: str = ""
    cut: bool = False


_STAR = _Place("star/Charades_v1_480", "star/Charades_segment", cut=True)
_CLEVRER, _PERCEPTION = _Place("clevrer/video_validation"), _Place("perception/videos")
PLACES = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": _Place("ssv2_video", "ssv2_video_mp4"),
    "fine_grained_action": _Place("Moments_in_Time_Raw/videos"),
    "unexpected_action": _Place("FunQA_test/test"),
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": _Place("sta/sta_video", "sta/sta_video_segment", cut=True),
    "scene_transition": _Place("scene_qa/video"),
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": _Place("nturgbd", "nturgbd_convert"),
    "character_order": _PERCEPTION,
    "egocentric_navigation": _Place("vlnqa"),
    "episodic_reasoning": _Place("tvqa/frames_fps3_hq", "tvqa/video_fps3_hq_segment", cut=True),
    "counterfactual_inference": _CLEVRER,
}
FRAMES_A_SECOND = 3.0
"""Of the folders of frames that replace the TVQA videos, if the row has no `fps`."""

_SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)


def _official(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"Question: {q.text}\nOptions:\n{parenthesised(q.options)}".rstrip() + "\nOnly give the best option."


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"Question:{q.text}\nOption:\n{parenthesised(q.options)}\nOnly give the best option.\n"


@dataclass(frozen=True)
class FirstWord:
    """The official rule: the first word of the first line, with the bracket that the prompt opened, contains the right
    option's `(b)` or is part of it.

    Several options can fit one reply; all fit the empty one. `score` counts it as right, as the official code does;
    the value `strict` counts it as wrong, and the note names the options.
    """

    def grade(self, question: Question, reply: str) -> Grade:
        word = ("(" + reply.strip().split("\n")[0]).lower().split(" ")[0]
        fits = [
            letter
            for letter in LETTERS[: len(question.options)]
            if word.replace(".", "") in f"({letter})".lower() or f"({letter})".lower() in word
        ]
        one = fits[0] if len(fits) == 1 else None
        return Grade(
            score=float(question.gold in fits),
            extracted=one,
            rule=f"first word: {word!r}",
            valid=one is not None,
            values={"strict": float(one is not None and one == question.gold)},
            note=f"fits {', '.join(fits)}" if len(fits) > 1 else "",
        )


@dataclass
class MVBench(Task):
    split: str = "test"

    name = "mvbench"
    benchmark = "MVBench"
    splits: ClassVar = {"test": Split(questions=(4000,), videos=(3955,))}
    tables = ("task",)
    hub = HubData(
        ("OpenGVLab/MVBench",),
        "mvbench_video",
        size_gb=15.8,
        revision="video",
        by_hand="fine_grained_pose has no videos on the hub: request NTU RGB+D from its authors and put those of "
        "json/fine_grained_pose.json into nturgbd_convert, or set task.allow_missing=true.",
    )
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb",
            prompt=_official,
            grader=FirstWord(),
            metrics=(Mean("accuracy", over="task"), Mean("overall"), Mean("strict accuracy", "strict", over="task")),
            decoding=Decoding(max_new_tokens=100),
            system=_SYSTEM,
            answer_prefix="Best option:(",
        ),
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/mvbench",
            prompt=_lmms_eval,
            grader=Choice("mvbench", letters="ABCDE", invalid="excluded_if_empty"),
            metrics=(Mean("accuracy", over="task"), Mean("overall")),
            decoding=Decoding(max_new_tokens=16),
            clean=lmms_eval,
        ),
    }

    def make_miniature(self, root: Path) -> None:
        from ._mini.mvbench import write

        write(root, {task: place.whole for task, place in PLACES.items()})

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files, tables = VideoFiles(root), {task: self._tables(root, task) for task in PLACES}
        if not any(tables.values()):
            expected = "json/action_sequence.json and the other tasks', or <task>/*.parquet"
            raise no_tables(root, self.benchmark, expected, f"video/{PLACES['action_sequence'].branch}/<video>")
        for task, paths in tables.items():
            if not paths:
                videos = f"video/{PLACES[task].branch or PLACES[task].whole}/<video>"
                raise no_tables(root, f"{self.benchmark}'s task {task}", f"json/{task}.json", videos)
            rows = (row for path in paths for row in read_table(path))
            read = partial(_item, files=files, task=task, last=self.protocol == "official")
            yield from read_rows(rows, read, self.allow_missing)

    def _tables(self, root: Path, task: str) -> list[Path]:
        named = (f"{task}/**/*.parquet", f"json/{task}.json")
        return find_tables(root, named) or cached_tables(root, self.hub, named, "train", task)


def _item(row: Row, files: VideoFiles, task: str, last: bool) -> VideoQuestions:
    """`last`: of candidates with the answer's text the last is right, as in the official code."""
    options, answer = row.options("candidates"), row.text("answer")
    question = Question(
        id=f"{task}-{row.number - 1}",
        text=row.text("question"),
        options=options,
        gold=letter_of(options, answer, last) or answer,
        groups={"task": (task,)},
    )
    video = _video(row, files, PLACES[task])
    return VideoQuestions(video, (question,), cluster=f"{PLACES[task].whole}/{row.text('video')}")


def _video(row: Row, files: VideoFiles, place: _Place) -> Video:
    """The file of the part if there is one, else the whole video with the times of the part."""
    name = row.file_name("video", ".webm")
    start_s, end_s = (row.seconds(column) if place.cut else None for column in ("start", "end"))
    for folder in _folders(place.branch) if place.branch else ():
        if (files.root / folder).is_dir():
            path = _cut_out(files, folder, name, start_s, end_s)
            return Video(f"{place.branch}/{path.name}", path)
    path = files.at(*(f"{folder}/{name}" for folder in _folders(place.whole)))
    id = f"{place.whole}/{name}" + (f"[{start_s:g}-{end_s:g}]" if start_s is not None and end_s is not None else "")
    return Video(id, path, start_s, end_s, fps=_pictures_a_second(row) if path.is_dir() else None)


def _pictures_a_second(row: Row) -> float:
    fps = row.seconds("fps")
    if fps == 0:
        raise row.error("fps", "expected more than 0 pictures a second")
    return fps or FRAMES_A_SECOND


def _folders(place: str) -> list[str]:
    """Below `video/` or the root; `data0613` has what the authors added later."""
    return [f"{base}{more}{place}" for base in ("", "video/") for more in ("", "data0613/")]


def _cut_out(files: VideoFiles, folder: str, name: str, start_s: float | None, end_s: float | None) -> Path:
    """`<name>`, else `<stem>_<start>_<end>` with any suffix, else `<stem>` with another suffix. If there is none:
    `<name>`."""
    stem = Path(name).stem if Path(name).suffix in _SUFFIXES else name
    path = files.at(f"{folder}/{name}", *(f"{folder}/{stem}{suffix}" for suffix in _SUFFIXES))
    if start_s is not None and end_s is not None and (path.name != Path(name).name or not path.is_file()):
        for part, times in _parts(files.root / folder).get(stem, ()):
            if abs(times[0] - start_s) < 0.01 and abs(times[1] - end_s) < 0.01:
                return part
    return path


_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")


@cache
def _parts(folder: Path) -> dict[str, list[tuple[Path, tuple[float, float]]]]:
    """Stem -> the files cut out of that video, with their times."""
    found: dict[str, list[tuple[Path, tuple[float, float]]]] = {}
    for path in sorted(folder.iterdir()):
        stem, *times = path.stem.rsplit("_", 2) if path.suffix in _SUFFIXES else ("",)
        try:
            start_s, end_s = map(float, times)
        except ValueError:
            continue
        found.setdefault(stem, []).append((path, (start_s, end_s)))
    return found
