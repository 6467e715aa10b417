from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import ConfigError
from evalkit.scoring.extract import EXTRACTORS, seeded_choice
from evalkit.scoring.grade import Choice, Invalid, Span, gold_problem, grade_reply, same_option
from evalkit.scoring.reasoning import as_is, lmms_eval, stripped
from evalkit.types import Question

OPTIONS = ("a red ball", "a blue ball", "a green ball", "no ball")
QUESTION = Question("q7", "Which ball?", OPTIONS, "C")


def test_right_and_wrong() -> None:
    right, wrong = (Choice("lmms_eval").grade(QUESTION, reply) for reply in ("(C)", "A."))
    assert (right.score, right.extracted, right.rule, right.valid) == (1, "C", "lmms_eval: (X)", True)
    assert (wrong.score, wrong.extracted, wrong.valid) == (0, "A", True)


def test_a_grade_notes_what_the_reply_filter_cut() -> None:
    reply = "<think>B or A</think>C"
    grade = grade_reply(Choice("lvbench"), lmms_eval, QUESTION, reply)
    assert (grade.extracted, grade.note) == ("C", "dropped <think>")
    assert grade_reply(Choice("lvbench"), as_is, QUESTION, reply).extracted is None
    notes = grade_reply(Choice("tolerant", markers=True), lmms_eval, QUESTION, "<think>B</think> A. Final answer: C")
    assert (notes.extracted, notes.note) == ("C", 'dropped <think>; kept what follows "Final answer:"')


@pytest.mark.parametrize("reply", ["", " \n", "<think>C</think>\n"])
def test_a_reply_that_the_filter_leaves_empty_is_excluded_as_an_empty_one(reply: str) -> None:
    grader = Choice("mvbench", invalid="excluded_if_empty")
    assert grade_reply(grader, lmms_eval, QUESTION, reply).score is None
    assert grade_reply(grader, as_is, QUESTION, reply).score == (None if reply == "" else float("C" in reply))
    assert grade_reply(grader, stripped, QUESTION, " C\n").score == 1


@pytest.mark.parametrize(
    ("invalid", "reply", "score", "values"),
    [
        ("wrong", "dunno", 0, {}),
        ("excluded", "dunno", None, {}),
        ("excluded_if_empty", "dunno", 0, {}),
        ("excluded_if_empty", "", None, {}),
        ("excluded_if_empty", " ", 0, {}),
        ("excluded", "C", 1, {}),
        ("random", "C", 1, {"strict": 1, "expected": 1}),
        ("random_wrong", "dunno", 0, {"strict": 0, "expected": 0}),
    ],
)
def test_invalid_policies(invalid: Invalid, reply: str, score: float | None, values: dict[str, float]) -> None:
    grade = Choice("video_mme", invalid=invalid).grade(QUESTION, reply)
    assert (grade.score, dict(grade.values), grade.valid) == (score, values, reply == "C")


def test_random_draws_among_the_options_and_is_expected_at_chance() -> None:
    questions = [Question(f"q{i}", "?", OPTIONS[:3], "B") for i in range(600)]
    grader = Choice("longvideobench", letters="ABCDE", invalid="random")
    grades = [grader.grade(question, "???") for question in questions]
    assert {grade.extracted for grade in grades} == set("ABC")
    assert 150 < sum(grade.score or 0 for grade in grades) < 250
    assert all(grade.values == {"strict": 0, "expected": pytest.approx(1 / 3)} and not grade.valid for grade in grades)
    assert [grader.grade(q, "???") for q in questions] == grades
    wrong = Choice("video_mme", letters="ABCDE", invalid="random_wrong")
    drawn = {wrong.grade(question, "???").extracted for question in questions}
    assert drawn == {"A", "C"}


def test_an_extractor_that_draws_is_marked() -> None:
    grade = Choice("nextqa", letters="ABCD").grade(QUESTION, "dunno")
    assert (grade.extracted, grade.valid) == (seeded_choice("q7", "ABCD"), False)
    assert grade.values["strict"] == 0 and grade.values["expected"] == 0.25


def test_gold_by_text_takes_the_first_match() -> None:
    twice = Question("1", "?", ("red", "blue", "red"), "red")
    assert Choice("mvbench").grade(twice, "A").score == 1
    assert Choice("mvbench").grade(twice, "C").score == 0
    lost = Choice("mlvu").grade(Question("1", "?", OPTIONS, "a purple ball"), "C")
    assert (lost.score, lost.note) == (0, "gold is not among the options")


def test_letters_of_equal_options_name_the_same_gold() -> None:
    twice = Question("1", "?", ("red", "blue", "red"), "C")
    assert [same_option(twice, gold) for gold in ("A", "B", "C", "red", "blue", "green", None)] == [
        *(True, False, True, True, False, False, False)
    ]


def test_hidden_gold_is_extracted_but_not_scored() -> None:
    grade = Choice("lmms_eval", invalid="random").grade(Question("1", "?", OPTIONS), "B")
    assert (grade.score, grade.extracted, dict(grade.values)) == (None, "B", {})


def test_misspelt_extractor_fails_at_import_of_the_task() -> None:
    with pytest.raises(ConfigError, match='Did you mean "lmms_eval"'):
        Choice("lmms_evl")


@given(
    st.sampled_from(sorted(EXTRACTORS)),
    st.sampled_from(["wrong", "excluded", "excluded_if_empty", "random", "random_wrong"]),
    st.sampled_from(["A", "C", "F", "a red ball", "?", None]),
    st.lists(st.sampled_from(OPTIONS), max_size=5),
    st.text(alphabet="ABCDEFabc(). :<think>/\n", max_size=30),
)
def test_no_reply_raises(name: str, invalid: Invalid, gold: str | None, options: list[str], reply: str) -> None:
    grade = Choice(name, letters="ABCDEF", invalid=invalid).grade(Question("1", "?", tuple(options), gold), reply)
    assert grade.score in (None, 0, 1)
    assert grade.score is not None or gold is None or invalid.startswith("excluded")


@pytest.mark.parametrize(
    ("grader", "gold", "options", "why"),
    [
        (Choice("lmms_eval"), "E", OPTIONS, "neither one of the letters ABCD nor one of its options"),
        (Choice("lmms_eval"), 5, OPTIONS, "its gold is 5"),
        (Choice("lmms_eval"), (1.0, 2.0), OPTIONS, r"its gold is \(1.0, 2.0\)"),
        (Choice("nextqa", "ABCDE"), "no. 27", tuple(f"no. {i}" for i in range(30)), "it has 30 options"),
        (Choice("longvideobench", invalid="random"), "AB", tuple("ab"), "its gold is 'AB'"),
        (Span("lmms_eval"), "A", (), "not a span"),
        (Span("tolerant"), (1.0, None), (), "not a span"),
        (Span("timesuite"), (1.0, 2.0, 3.0), (), "not a span"),
    ],
)
def test_a_gold_that_cannot_be_right_is_named_and_scores_nothing(
    grader: Any, gold: Any, options: Any, why: str
) -> None:
    question = Question("q9", "?", options, gold, meta={"duration_s": 9.0})
    assert re.search(why, gold_problem(grader, question))
    for reply in ("A", "E", "1.0 - 2.0", ""):
        grade = grader.grade(question, reply)
        assert grade.score in (0, None) and (grade.note or grade.score is None)


def test_letters_reach_from_a_to_z() -> None:
    options = tuple(f"no. {i}" for i in range(26))
    last = Question("q", "?", options, "no. 25")
    assert gold_problem(Choice("mlvu", letters="XYZ"), last) == ""
    assert Choice("mlvu", letters="XYZ").grade(last, "Z").score == 1
