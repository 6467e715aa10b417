"""The protocols that lmms-eval defines, on odd replies: letters and spans as lmms-eval 0.7.3 reads them when it is run
from its command line (reasoning tags cut, reply stripped, task function). Its functions gave the expected values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.task import Task
from evalkit.tasks.charades_sta import CharadesSTA
from evalkit.tasks.longvideobench import LongVideoBench
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.mlvu import MLVU
from evalkit.tasks.mvbench import MVBench
from evalkit.tasks.nextqa import NExTQA
from evalkit.tasks.videomathqa import VideoMathQA
from evalkit.tasks.videomme import VideoMME
from evalkit.types import Question

from .answers import read_rows

ROWS = read_rows(Path(__file__).with_name("lmms_eval_replies.jsonl"))
OPTIONS = ("walking the dog", "riding a brown horse", "sleeping in the car", "He eats", "reading A book")

TASKS: list[tuple[Task, str, int]] = [  # task, column of the expected letter, options
    (MLVU(protocol="lmms_eval"), "letter", 4),
    (MLVU(split="test", protocol="lmms_eval"), "letter", 5),
    (VideoMME(protocol="lmms_eval"), "letter", 4),
    (LVBench(protocol="lmms_eval"), "letter", 4),
    (LongVideoBench(protocol="lmms_eval"), "longvideobench", 5),
    (VideoMathQA(protocol="official"), "videomathqa", 5),
    (VideoMathQA(protocol="lmms_eval"), "videomathqa", 5),
    (VideoMathQA(protocol="lmms_eval_cot"), "videomathqa", 5),
    (NExTQA(protocol="lmms_eval"), "nextqa", 5),
    (NExTQA(protocol="llava_video"), "nextqa", 5),
]


@pytest.mark.parametrize(("task", "column", "options"), TASKS, ids=lambda value: getattr(value, "name", None))
def test_letters(task: Task, column: str, options: int) -> None:
    for row in ROWS:
        grade = task.grade(Question("q", "?", OPTIONS[:options], "B"), row["reply"])
        assert grade.valid == bool(row[column]), row
        if row[column]:  # else lmms-eval reads nothing, or draws
            assert (grade.extracted, grade.score) == (row[column], float(row[column] == "B")), row


def test_mvbench_leaves_out_replies_that_are_empty_after_the_filter() -> None:
    task = MVBench(protocol="lmms_eval")
    scores = [task.grade(Question("q", "?", OPTIONS[:4], "B"), row["reply"]).score for row in ROWS]
    assert scores == [row["mvbench_gold_B"] for row in ROWS]
    assert scores.count(None) == 4  # empty, two of white space, one of reasoning alone


def test_spans() -> None:
    task = CharadesSTA(protocol="lmms_eval")
    found = [task.grade(Question("q", "?", (), (1.0, 2.0)), row["reply"]).extracted for row in ROWS]
    assert [list(span) if span else None for span in found] == [row["span"] for row in ROWS]


def test_a_model_that_is_always_right_and_ends_its_lines_is_right() -> None:
    task = NExTQA()
    for reply in ("{}\n", "[The answer is {},\t", "\n ({})"):
        questions = [Question(f"q{i}", "?", OPTIONS, "ABCDE"[i % 5]) for i in range(50)]
        assert all(task.grade(q, reply.format(q.gold)).score == 1 for q in questions), reply


def forks(protocol: str) -> list[Task]:
    return [
        MLVU(protocol=protocol),
        VideoMME(protocol=protocol),
        LVBench(protocol=protocol),
        LongVideoBench(protocol=protocol),
    ]


@pytest.mark.parametrize("protocol", ["video_xl_2", "videochat_flash"])
def test_forks_of_lmms_eval_strip_replies_and_cut_no_tags(protocol: str) -> None:
    for task in forks(protocol):
        question = Question("q", "?", OPTIONS[:4], "B")
        assert task.grade(question, " \tB\n").score == 1
        note = task.grade(question, "<think>A</think>B").note
        assert "dropped" not in note


def test_official_scorers_get_the_reply_as_it_is() -> None:
    """Their scripts have no filter: what a tag holds is read like any other text."""
    question = Question("q", "?", OPTIONS[:4], "C")
    for task in (MLVU(), VideoMME(), LongVideoBench()):
        assert task.grade(question, "<think>(A)</think>C").extracted in ("A", None), task.name


def test_evalkits_own_reading_is_a_setting_and_its_label_says_so() -> None:
    reply = "<think>A, I would say</think> Final answer: C"
    question = Question("q", "?", OPTIONS[:4], "C")
    own = VideoMME(protocol="official", reasoning="evalkit")
    assert own.grade(question, reply).score == 1
    assert own.grade(question, reply).note == 'dropped <think>; kept what follows "Final answer:"'
    assert own.protocol_label == "official, reasoning=evalkit"
    plain = VideoMME(protocol="official")
    assert plain.grade(question, reply).extracted == "A"
    assert plain.protocol_label == "official"


def test_protocols_of_our_own_read_alike_under_both_settings() -> None:
    reply = "<think>so it is A: 1 to 2</think> Final answer: C, from 3 to 4 s"
    for kind, protocol in ((VideoMathQA, "cot_tolerant"), (CharadesSTA, "tolerant")):
        gold: Any = "C" if kind is VideoMathQA else (3.0, 4.0)
        question = Question("q", "?", OPTIONS if kind is VideoMathQA else (), gold)
        grades = [kind(protocol=protocol, reasoning=r).grade(question, reply) for r in ("protocol", "evalkit")]
        assert grades[0] == grades[1] and grades[0].score == 1
