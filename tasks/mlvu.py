"""MLVU: a comprehensive benchmark for multi-task long video understanding (arXiv 2406.04264).

Repository: github.com/JUNJIE99/MLVU. Data: huggingface.co/datasets/MLVU/MVLU and MLVU/MLVU_Test (official),
sy1998/MLVU_dev and sy1998/MLVU_Test (lmms-eval's, multiple choice alone). M-Avg is the unweighted mean of the task
accuracies; `overall` is the mean over questions, which Video-XL-2 prints. The same answers give 72.9 by the one and
74.8 by the other. G-Avg, from 2 to 10, is the mean of the two generation tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from evalkit.errors import DataError
from evalkit.scoring.grade import Choice
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_table
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Decoding, FramePlan, Question, Record, Video, VideoQuestions

from . import _mlvu_generation as generation
from ._inlined import inlined, split_inlined, verbatim
from ._judge import JudgeConfig
from ._shared import LETTERS, first_existing, letter_of, parenthesised

_FILES = {
    "dev": ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning"),
    "dev_generation": ("8_sub_scene", "9_summary"),
    "test": ("test_mcq_gt",),
    "test_generation": ("test_ssc_gt", "test_vs_gt"),
}
_HUB_SPLITS = ("dev", "test")
_HUB = {
    "dev": HubData(("sy1998/MLVU_dev", "sy1998/temp"), "mlvu", flat=True),
    "test": HubData(("sy1998/MLVU_Test",), "mlvu_test", flat=True),
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
    return f"Question: {q.text}\nOptions:\n{parenthesised(q.options)}\nOnly give the best option."


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{inlined(q)}\nOnly give the best option.\nBest option: ("


def _lmms_eval_test(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    """No word of what to do with the options: none is configured for this split."""
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
)
_VIDEO_XL_2 = Protocol(
    source="github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval; its 74.8 is `overall`",
    prompt=_video_xl_2,
    grader=Choice("mlvu"),
    metrics=(_OVERALL, _M_AVG),
    decoding=Decoding(max_new_tokens=16),
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
    ),
}
_TEST = {
    "official": replace(_OFFICIAL, source="github.com/JUNJIE99/MLVU, evaluation_test", grader=Choice("mlvu", "ABCDEF")),
    "lmms_eval": replace(
        _LMMS_EVAL,
        source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/mlvu, mlvu_test: it knows A to D of the six options alone",
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
        """The splits of multiple choice have a copy each, those of generation stand in the official repositories."""
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
        if tables := _hub_tables(root) if self.split in _HUB_SPLITS else []:
            rows = [row for table in tables for row in read_table(table)]
            for id, row in zip(_hub_ids(rows, self.split), rows, strict=True):
                yield _from_hub(row, id, root)
            return
        for stem in _FILES[self.split]:
            for row in read_table(_official_file(root, stem, self.split)):
                yield _from_official(row, root, stem)

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """Of the test split: test_res.json, as the evaluation server takes it."""
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


def _bases(root: Path) -> tuple[Path, ...]:
    """The folder itself, or that of the repository's download, in which it is."""
    return root, root / "MLVU", root / "MLVU_Test"


def _official_file(root: Path, stem: str, split: str) -> Path:
    """json/<task>.json of dev, test-ground-truth/<file>.json of test; of the latter also the file without answers."""
    folder = "test-ground-truth" if split.startswith("test") else "json"
    places = [base / name / f"{stem}.json" for base in _bases(root) for name in (folder, "data")]
    if split == "test":
        places.append(root / "test_multi_choice_tasks.json")
    path = first_existing(*places)
    if not path.exists():
        hub = ", or a hub copy's mlvu/*.parquet" if split in _HUB_SPLITS else "; hub copies have multiple choice alone"
        raise DataError(f"{root} holds no MLVU ({split}): expected {folder}/{stem}.json{hub}.")
    return path


def _from_official(row: Row, root: Path, stem: str) -> VideoQuestions:
    name, id = row.text("video"), row.get("question_id") or f"{stem}-{row.number - 1}"
    question = _open(row, id, stem) if stem in _GENERATION else _choice(row, id)
    duration_s = row.get("duration")
    if duration_s is not None:
        question = replace(question, groups={**question.groups, "length": (_length(row, duration_s),)})
    places = [base / "video" / folder / name for base in _bases(root) for folder in (stem, "", "video")]
    video_id = name if stem.startswith("test") else f"{stem}/{name}"
    return VideoQuestions(
        Video(video_id, first_existing(*places, root / name), duration_s=duration_s), (question,), cluster=name
    )


def _choice(row: Row, id: str) -> Question:
    options, task = row.texts("candidates"), row.text("question_type")
    answer = row.get("answer")  # not in the file without answers
    # A few rows' answers are not among their options: never right.
    gold = None if answer is None else letter_of(options, str(answer)) or str(answer)
    return Question(id, row.text("question"), options, gold, groups=_groups(_TASKS.get(task, task)))


def _open(row: Row, id: str, stem: str) -> Question:
    task = _GENERATION[stem]
    meta = {"scoring_points": row.texts("scoring_points")} if task == "sub_scene" else {}
    return Question(id, row.text("question"), gold=row.text("answer"), groups={"task": (task,)}, meta=meta)


def _groups(task: str) -> dict[str, tuple[str, ...]]:
    return {"task": (task,), "ability": _ABILITY.get(task, (task,))}


def _length(row: Row, duration_s: object) -> str:
    if not isinstance(duration_s, (int, float)):
        raise row.error("duration", f"expected seconds, found {duration_s!r}")
    return next((label for minutes, label in _LENGTHS if duration_s <= 60 * minutes), "60 min and more")


# Hub copies ----------------------------------------------------------------------------------------------------------


def _hub_tables(root: Path) -> list[Path]:
    for pattern in ("mlvu/*.parquet", "data/*.parquet", "*.parquet", "*.jsonl", "*.jsonl.gz"):
        if tables := sorted(root.glob(pattern)):
            return tables
    return []


def _hub_ids(rows: Sequence[Row], split: str) -> list[str]:
    """The rows' own ids where every row has one, else their numbers, which are lmms-eval's `doc_id`."""
    ids = [str(row.get("question_id", "")) for row in rows]
    return ids if all(ids) and len(set(ids)) == len(ids) else [f"{split}-{number}" for number in range(len(rows))]


def _from_hub(row: Row, id: str, root: Path) -> VideoQuestions:
    name, answer = row.text("video_name"), row.text("answer")
    meta = {}
    if "\n(A)" in row.text("question") or "candidates" not in row.values:
        text, options = split_inlined(row)
        meta = verbatim(row, text, options)
    else:
        text, options = row.text("question"), row.texts("candidates")
    gold = answer if answer in tuple(LETTERS) else letter_of(options, answer) or answer
    task = _TASKS.get(row.text("task_type"), row.text("task_type"))
    question = Question(id, text, options, gold, groups=_groups(task), meta=meta)
    return VideoQuestions(Video(name, first_existing(root / name, root / "video" / name)), (question,), cluster=name)
