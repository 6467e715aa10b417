"""MLVU: a comprehensive benchmark for multi-task long video understanding (arXiv 2406.04264).

Repository: github.com/JUNJIE99/MLVU. Data: huggingface.co/datasets/MLVU/MVLU and MLVU/MLVU_Test (official),
sy1998/MLVU_dev and sy1998/MLVU_Test (lmms-eval's, multiple choice alone). M-Avg is the unweighted mean of the task
accuracies; `overall` is the mean over questions, which Video-XL-2 reports. The same replies give 72.9 (M-Avg) and 74.8
(overall). G-Avg, from 2 to 10, is the mean of the two generation tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import lmms_eval, stripped
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_rows, read_table
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Record, Video, VideoQuestions

from . import _mlvu_generation as generation
from ._inlined import inlined, split_inlined, verbatim
from ._judge import JudgeConfig
from ._shared import LETTERS, letter_of, parenthesised

_FILES = {
    "dev": ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning"),
    "dev_generation": ("8_sub_scene", "9_summary"),
    "test": ("test_mcq_gt",),
    "test_generation": ("test_ssc_gt", "test_vs_gt"),
}
_HUB_SPLITS = ("dev", "test")
_HUB = {
    "dev": HubData(("sy1998/MLVU_dev", "sy1998/temp"), "mlvu", flat=True),
    "test": HubData(("sy1998/MLVU_Test",), "mlvu_test", size_gb=75.3, flat=True),
    "dev_generation": HubData(("MLVU/MVLU",), "mlvu", files=("*8_sub_scene*", "*9_summary*"), gated=True),
    "test_generation": HubData(("MLVU/MLVU_Test",), "mlvu_test", gated=True),
}
_TASKS = {"findNeedle": "needle"}  # the official rows' other name for a task
_GENERATION = {"8_sub_scene": "sub_scene", "test_ssc_gt": "sub_scene", "9_summary": "summary", "test_vs_gt": "summary"}
_ABILITIES = {
    "holistic": ("topic_reasoning", "anomaly_reco"),
    "single detail": ("needle", "needleQA", "ego", "plotQA", "sportsQA"),
    "multi detail": ("order", "count", "tutorialQA"),
}
_ABILITY = {task: (ability,) for ability, tasks in _ABILITIES.items() for task in tasks}
_LENGTHS = ((5, "00-05 min"), (15, "05-15 min"), (60, "15-60 min"))
_SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)
_M_AVG, _OVERALL = Mean("M-Avg", over="task"), Mean("overall")


def _official(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    asked = f"Question: {q.text}\nOptions:\n{parenthesised(q.options)}".rstrip()
    return f"{asked}\nOnly give the best option."


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{inlined(q)}\nOnly give the best option.\nBest option: ("


def _lmms_eval_test(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    """Without an instruction: lmms-eval configures none for this split."""
    return inlined(q)


def _video_xl_2(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"\n{inlined(q)}\nOnly give the best option.\n\nBest option: ("


def _videochat_flash(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    directly = "Answer with the option's letter from the given choices directly."
    return f"Question:{q.text}\nOption:\n{parenthesised(q.options)}\n{directly}"


_OFFICIAL = Protocol(
    source="github.com/JUNJIE99/MLVU, evaluation/multiple_choice_evaluation",
    prompt=_official,
    grader=Choice("mlvu"),
    metrics=(_M_AVG, _OVERALL),
    system=_SYSTEM,
    answer_prefix="Best Option: (",
)
_LMMS_EVAL = Protocol(
    source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/mlvu, mlvu_dev",
    prompt=_lmms_eval,
    grader=Choice("lmms_eval"),
    metrics=(_M_AVG, _OVERALL),
    clean=lmms_eval,
)
_VIDEO_XL_2 = Protocol(
    source="github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval; its 74.8 is `overall`",
    prompt=_video_xl_2,
    grader=Choice("mlvu"),
    metrics=(_OVERALL, _M_AVG),
    decoding=Decoding(max_new_tokens=16),
    clean=stripped,
)
_DEV = {
    "official": _OFFICIAL,
    "lmms_eval": _LMMS_EVAL,
    "video_xl_2": _VIDEO_XL_2,
    "videochat_flash": Protocol(
        source="github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat, mlvu_mc: weighted by the size of the tasks",
        prompt=_videochat_flash,
        grader=Choice("mvbench", letters="ABCDE", invalid="excluded_if_empty"),
        metrics=(_OVERALL, _M_AVG),
        decoding=Decoding(max_new_tokens=16),
        clean=stripped,
    ),
}
_TEST = {
    "official": replace(
        _OFFICIAL,
        source="github.com/JUNJIE99/MLVU, evaluation_test",
        grader=Choice("mlvu", "ABCDEF"),
    ),
    "lmms_eval": replace(
        _LMMS_EVAL,
        source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/mlvu, mlvu_test: it reads only A to D of the six options",
        prompt=_lmms_eval_test,
    ),
    "video_xl_2": replace(_VIDEO_XL_2, grader=Choice("mlvu", "ABCDEF")),
}


@dataclass
class MLVU(Task):
    """`judge`: the model that grades the generation splits."""

    split: str = "dev"
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    name = "mlvu"
    benchmark = "MLVU"
    splits: ClassVar = {
        "dev": Split(questions=(2174, 2175), videos=(1122, 1242)),
        "test": Split(questions=(502,)),
        "dev_generation": Split(questions=(418,), videos=(417,)),
        "test_generation": Split(),
    }
    tables = ("task", "ability", "length")
    protocols: ClassVar = _DEV

    @property
    def hub(self) -> HubData:  # type: ignore[override]
        """Each multiple-choice split has its own copy; the generation splits are in the official repositories."""
        return _HUB[self.split]

    def available_protocols(self) -> Mapping[str, Protocol]:
        if self.split.endswith("_generation"):
            return {"official": self._generation()}
        return _TEST if self.split == "test" else _DEV

    def _generation(self) -> Protocol:
        return Protocol(
            source="github.com/JUNJIE99/MLVU, evaluation/generation_evaluation",
            prompt=generation.prompt,
            grader=generation.Generation(self.judge.judge()),
            metrics=(Mean("G-Avg", over="task", scale=1), Mean("overall", scale=1)),
            decoding=Decoding(max_new_tokens=1024),
            system=generation.SYSTEM,
        )

    def make_miniature(self, root: Path) -> None:
        from ._mini.mlvu import write

        write(root)

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files = VideoFiles(root)
        if tables := self._hub_tables(root):
            rows = [row for table in tables for row in read_table(table)]
            own_ids = all(row.get("question_id") for row in rows)
            numbers = {id(row): number for number, row in enumerate(rows)}  # lmms-eval's `doc_id`

            def read(row: Row) -> VideoQuestions:
                own = row.id("question_id") if own_ids else f"{self.split}-{numbers[id(row)]}"
                return _from_hub(row, own, files, last=self.protocol == "official")

            yield from read_rows(rows, read, self.allow_missing)
            return
        for stem in _FILES[self.split]:
            rows = read_table(self._official_table(root, stem))
            official = partial(_from_official, files=files, stem=stem, last=self.protocol == "official")
            yield from read_rows(rows, official, self.allow_missing)

    def _hub_tables(self, root: Path) -> list[Path]:
        """Of the splits of multiple choice; a folder without tables may have official ones."""
        if self.split not in _HUB_SPLITS:
            return []
        named = (f"{_HUB[self.split].folder}/*.parquet",)
        others = ("data/*.parquet", "*.parquet", "*.jsonl", "*.jsonl.gz")
        found = find_tables(root, named, others, ({"video_name", "task_type"},))
        if not found and not any(_find_official(root, stem, self.split) for stem in _FILES[self.split]):
            found = cached_tables(root, self.hub, named, "test")
        return found

    def _official_table(self, root: Path, stem: str) -> Path:
        """The path of an official file; `stem`: its name without suffix."""
        if tables := _find_official(root, stem, self.split):
            return tables[0]
        hub = f", or {_HUB[self.split].folder}/test-00000-of-00001.parquet of the hub's copy"
        none = "; the hub's copies for lmms-eval have multiple choice alone"
        expected = f"{_official_folder(self.split)}/{stem}.json{hub if self.split in _HUB_SPLITS else none}"
        videos = "video/<video>.mp4" if self.split.startswith("test") else f"video/{stem}/<video>.mp4"
        raise no_tables(root, f"{self.benchmark} ({self.split})", expected, videos)

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """For the test split: test_res.json, in the format of the evaluation server."""
        if self.split != "test":
            return {}
        answers = [
            {
                "question_id": record.question,
                "question_type": record.groups["task"][0],
                "option": record.extracted if isinstance(record.extracted, str) else "",
            }
            for record in records
        ]
        return {"test_res.json": json.dumps(answers, indent=4) + "\n"}


# Official layout -----------------------------------------------------------------------------------------------------


_BASES = ("", "MLVU/", "MLVU_Test/")
"""The folder itself, or that of the repository's download, in which it is."""


def _official_folder(split: str) -> str:
    return "test-ground-truth" if split.startswith("test") else "json"


def _find_official(root: Path, stem: str, split: str) -> list[Path]:
    """json/<task>.json of dev, test-ground-truth/<file>.json of test; of the latter also the file without answers."""
    named = [f"{base}{folder}/{stem}.json" for base in _BASES for folder in (_official_folder(split), "data")]
    if split == "test":
        named += [f"{base}test_multi_choice_tasks.json" for base in _BASES]
    return find_tables(root, named)


def _from_official(row: Row, files: VideoFiles, stem: str, last: bool) -> VideoQuestions:
    """Videos lie in video/<file of the question>/ (dev); those of test come in a tar, whose folders are not known for
    certain: they are searched by name. `last`: of candidates with the answer's text the last is right, as in the
    official code."""
    name = row.file_name("video")
    id = f"{stem}-{row.number - 1}" if row.get("question_id") is None else row.id("question_id")
    question = _open(row, id, stem) if stem in _GENERATION else _choice(row, id, last)
    duration_s = row.seconds("duration")
    if duration_s is not None:
        question = replace(question, groups={**question.groups, "length": (_length(duration_s),)})
    if stem.startswith("test"):
        folders = ("video/", f"video/{stem}/", "video/video/")
        path = files.find(*(f"{base}{folder}{name}" for base in _BASES for folder in folders), name)
        return VideoQuestions(Video(name, path, duration_s=duration_s), (question,), cluster=name)
    # Videos of two tasks may have one name, so those of dev are not searched by name.
    path = files.at(*(f"{base}{folder}{name}" for base in _BASES for folder in (f"video/{stem}/", "video/")))
    return VideoQuestions(Video(f"{stem}/{name}", path, duration_s=duration_s), (question,), cluster=name)


def _choice(row: Row, id: str, last: bool) -> Question:
    options, task = row.options("candidates"), row.text("question_type")
    answer = row.get("answer")  # not in the file without answers
    # The answers of a few rows are not among their options; no reply is right.
    gold = None if answer is None else letter_of(options, str(answer), last) or row.text("answer")
    return Question(id, row.text("question"), options, gold, groups=_groups(_TASKS.get(task, task)))


def _open(row: Row, id: str, stem: str) -> Question:
    task = _GENERATION[stem]
    meta = {"scoring_points": row.texts("scoring_points")} if task == "sub_scene" else {}
    return Question(id, row.text("question"), gold=row.text("answer"), groups={"task": (task,)}, meta=meta)


def _groups(task: str) -> dict[str, tuple[str, ...]]:
    return {"task": (task,), "ability": _ABILITY.get(task, (task,))}


def _length(duration_s: float) -> str:
    return next((label for minutes, label in _LENGTHS if duration_s <= 60 * minutes), "60 min and more")


# Hub copies ----------------------------------------------------------------------------------------------------------


def _from_hub(row: Row, id: str, files: VideoFiles, last: bool) -> VideoQuestions:
    name, answer = row.file_name("video_name"), row.text("answer")
    meta = {}
    if "\n(A)" in row.text("question") or "candidates" not in row.values:
        text, options = split_inlined(row)
        meta = verbatim(row, text, options)
    else:
        text, options = row.text("question"), row.options("candidates")
    letter = answer if answer in tuple(LETTERS) else letter_of(options, answer)
    if last and letter in tuple(LETTERS[: len(options)]):
        letter = letter_of(options, options[LETTERS.index(letter)], last)
    gold = letter or answer
    task = _TASKS.get(row.text("task_type"), row.text("task_type"))
    question = Question(id, text, options, gold, groups=_groups(task), meta=meta)
    return VideoQuestions(Video(name, files.find(name, f"video/{name}")), (question,), cluster=name)
