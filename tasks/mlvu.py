"""MLVU: a comprehensive benchmark for multi-task long video understanding (arXiv 2406.04264).

Repository: github.com/JUNJIE99/MLVU. Data: huggingface.co/datasets/MLVU/MVLU (official), sy1998/MLVU_dev (lmms-eval's).
M-Avg is the unweighted mean of the task accuracies; `overall` is the mean over questions, which Video-XL-2 prints. The
same answers give 72.9 by the one and 74.8 by the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evalkit.errors import DataError
from evalkit.scoring.grade import Choice
from evalkit.scoring.summary import Mean
from evalkit.tables import Row, read_table
from evalkit.task import HubData, Protocol, Split, Task
from evalkit.types import Clip, Decoding, FramePlan, Question, Video

from ._shared import first_existing, letter_of, parenthesised

_FILES = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
_TASKS = {"findNeedle": "needle"}  # the official rows' other name for a task
_ROLLUP = {
    "topic_reasoning": "holistic",
    "anomaly_reco": "holistic",
    "needle": "single detail",
    "ego": "single detail",
    "plotQA": "single detail",
    "order": "multi detail",
    "count": "multi detail",
}
_SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)
_M_AVG, _OVERALL = Mean("M-Avg", over="task"), Mean("overall")


def _official(clip: Clip, q: Question, plan: FramePlan) -> str:
    return f"Question: {q.text}\nOptions:\n{parenthesised(q.options)}\nOnly give the best option."


def _inlined(q: Question) -> str:
    """The question as the hub copy of lmms-eval holds it, options included."""
    return q.meta.get("inlined") or f"{q.text}\n{parenthesised(q.options)}"


def _lmms_eval(clip: Clip, q: Question, plan: FramePlan) -> str:
    return f"{_inlined(q)}\nOnly give the best option.\nBest option: ("


def _video_xl_2(clip: Clip, q: Question, plan: FramePlan) -> str:
    return f"\n{_inlined(q)}\nOnly give the best option.\n\nBest option: ("


@dataclass
class MLVU(Task):
    split: str = "dev"

    name = "mlvu"
    benchmark = "MLVU"
    splits: ClassVar = {"dev": Split(questions=(2174, 2175))}
    tables = ("task", "ability")
    hub = HubData(
        ("sy1998/MLVU_dev", "sy1998/temp"), "mlvu", by_hand="MLVU/MVLU is gated: accept its terms on the hub."
    )
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/JUNJIE99/MLVU, evaluation/multiple_choice_evaluation",
            prompt=_official,
            grader=Choice("mlvu"),
            metrics=(_M_AVG, _OVERALL),
            system=_SYSTEM,
            answer_prefix="Best Option: (",
        ),
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/mlvu",
            prompt=_lmms_eval,
            grader=Choice("lmms_eval"),
            metrics=(_M_AVG, _OVERALL),
        ),
        "video_xl_2": Protocol(
            source="github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval; its 74.8 is `overall`",
            prompt=_video_xl_2,
            grader=Choice("mlvu"),
            metrics=(_OVERALL, _M_AVG),
            decoding=Decoding(max_new_tokens=16),
        ),
    }

    def make_miniature(self, root: Path) -> None:
        from ._mini.mlvu import write

        write(root)

    def load(self, root: Path) -> Iterator[Clip]:
        if tables := sorted(root.glob("mlvu/*.parquet")) or sorted(root.glob("*.parquet")):
            for table in tables:
                yield from (_from_hub(row, root) for row in read_table(table))
            return
        folder = next((base / "json" for base in (root, root / "MLVU") if (base / "json").is_dir()), None)
        if folder is None:
            raise DataError(f"{root} holds no MLVU: expected json/1_plotQA.json ... or mlvu/*.parquet.")
        for stem in _FILES:
            yield from (_from_official(row, folder.parent, stem) for row in read_table(folder / f"{stem}.json"))


def _from_official(row: Row, root: Path, stem: str) -> Clip:
    name, options, answer = row.text("video"), row.texts("candidates"), row.text("answer")
    task = _TASKS.get(row.text("question_type"), row.text("question_type"))
    path = first_existing(root / "video" / stem / name, root / "video" / name)
    question = Question(
        id=f"{stem}-{row.number - 1}",
        text=row.text("question"),
        options=options,
        gold=letter_of(options, answer) or answer,  # a few rows' answers are not among their options: never right
        groups={"task": (task,), "ability": (_ROLLUP.get(task, task),)},
    )
    return Clip(Video(f"{stem}/{name}", path, duration_s=row.get("duration")), (question,), cluster=name)


def _from_hub(row: Row, root: Path) -> Clip:
    name, task = row.text("video_name"), row.text("task_type")
    text, options = split_inlined(row)
    question = Question(
        id=f"{row.path.stem}-{row.number - 1}",
        text=text,
        options=options,
        gold=row.text("answer"),
        groups={"task": (task,), "ability": (_ROLLUP.get(task, task),)},
        meta={"inlined": row.text("question")},
    )
    return Clip(Video(name, first_existing(root / name, root / "video" / name)), (question,))


def split_inlined(row: Row) -> tuple[str, tuple[str, ...]]:
    """Question and options of a row whose question holds them as `(A) ...` lines."""
    text, *options = row.text("question").split("\n(")
    if [option[:2] for option in options] != [f"{letter})" for letter in "ABCDEFGHIJ"[: len(options)]] or not options:
        raise row.error("question", "expected the options as lines (A) ..., (B) ...")
    return text, tuple(option[2:].removeprefix(" ") for option in options)
