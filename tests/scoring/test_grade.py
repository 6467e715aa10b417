from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import ConfigError
from evalkit.scoring.extract import EXTRACTORS, seeded_choice
from evalkit.scoring.grade import Choice, Invalid
from evalkit.scoring.reasoning import strip_reasoning
from evalkit.types import Question

OPTIONS = ("a red ball", "a blue ball", "a green ball", "no ball")
QUESTION = Question("q7", "Which ball?", OPTIONS, "C")


@pytest.mark.parametrize(
    ("reply", "text", "steps"),
    [
        ("C", "C", ()),
        (" Answer: C\n", " Answer: C\n", ()),
        ("<think>A? No.</think>C", "C", ("dropped <think>",)),
        ("<think>A? No.</think>\n\nThe answer: B", "B", ("dropped <think>", 'kept what follows "answer:"')),
        ("the template opened it ... A</think> C", "C", ("dropped up to </think>",)),
        ("<think>I have no tokens left, A", "", ("dropped unclosed <think>",)),
        ("B <THINK>A</THINK> then", "B  then", ("dropped <think>",)),
        ("<think>a <think> b</think> C", "C", ("dropped <think>",)),
        ("<think>x</think><answer>C</answer> bye", "C", ("dropped <think>", "kept <answer>")),
        ("<answer>A</answer> no: <answer>C</answer>", "C", ("kept <answer>",)),
        ("so <answer> C", "C", ("kept <answer>",)),
        ("<answer></answer> C", "<answer></answer> C", ()),
        ("<think>x</think> **Final Answer:** D", "D", ("dropped <think>", 'kept what follows "Final Answer:"')),
        ("<think>x</think> Answer:", "Answer:", ("dropped <think>",)),
        ("", "", ()),
    ],
)
def test_reasoning(reply: str, text: str, steps: tuple[str, ...]) -> None:
    answer = strip_reasoning(reply)
    assert (answer.text, answer.steps) == (text, steps)


def test_markers_are_read_without_tags_only_on_request() -> None:
    reply = "First, A is wrong. Answer: B? No. Final answer is: C."
    assert strip_reasoning(reply).text == reply
    assert strip_reasoning(reply, markers=True).text == "C."


@given(st.text(alphabet="<>/thinkanswer ABC:\n", max_size=80))
def test_an_untagged_reply_is_untouched(reply: str) -> None:
    answer = strip_reasoning(reply)
    if not answer.steps:
        assert answer.text == reply


@pytest.mark.parametrize(
    "reply", ["<think>" * 150_000, "</think>" * 120_000, "<answer>" * 120_000, "answer " * 150_000]
)
def test_reasoning_is_linear(reply: str) -> None:
    strip_reasoning(reply, markers=True)


def test_right_and_wrong() -> None:
    right, wrong = (Choice("lmms_eval").grade(QUESTION, reply) for reply in ("(C)", "A."))
    assert (right.score, right.extracted, right.rule, right.valid) == (1, "C", "lmms_eval: (X)", True)
    assert (wrong.score, wrong.extracted, wrong.valid) == (0, "A", True)


def test_pre_pass_is_logged_and_can_be_off() -> None:
    reply = "<think>B or A</think>C"
    grade = Choice("lvbench").grade(QUESTION, reply)
    assert (grade.extracted, grade.note) == ("C", "dropped <think>")
    assert Choice("lvbench", reasoning=False).grade(QUESTION, reply).extracted is None


@pytest.mark.parametrize(
    ("invalid", "reply", "score", "values"),
    [
        ("wrong", "dunno", 0, {}),
        ("excluded", "dunno", None, {}),
        ("excluded_if_empty", "dunno", 0, {}),
        ("excluded_if_empty", "", None, {}),
        ("excluded_if_empty", "<think>out of tokens", 0, {}),
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
