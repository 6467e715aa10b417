"""Reply filters: what each pipeline cuts from a reply before its extractor reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.scoring.reasoning import REPLY_FILTERS, after_marker, as_is, lmms_eval, strip_reasoning, stripped


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
def test_evalkit(reply: str, text: str, steps: tuple[str, ...]) -> None:
    answer = strip_reasoning(reply)
    assert (answer.text, answer.steps) == (text, steps)


@pytest.mark.parametrize(
    ("reply", "text", "steps"),
    [
        (" C\n", "C", ()),
        ("<think>A</think> C", "C", ("dropped <think>",)),
        ("<think>A</think>B<think>C</think>D", "BD", ("dropped <think>",)),
        ("<analysis>A</analysis>\nB", "B", ("dropped <analysis>",)),
        ("<think>A", "<think>A", ()),  # never closed: stays
        ("B <think>A", "B <think>A", ()),
        ("A</think> B</think> C", "C", ("dropped up to </think>",)),
        ("<think>a<think>b</think>A</think>B", "B", ("dropped <think>", "dropped up to </think>")),
        ("</think>B<think>A", "</think>B<think>A", ()),
        ("<THINK>A</THINK>", "<THINK>A</THINK>", ()),
        ("<thinking>A</thinking> C", "<thinking>A</thinking> C", ()),
        ("<think>x</think><answer>C</answer>", "<answer>C</answer>", ("dropped <think>",)),
        ("<think>x</think> Final answer: D", "Final answer: D", ("dropped <think>",)),
        ("<thi<think>A</think>nk>B</think>C", "C", ("dropped <think>",)),  # the cut makes an opening tag
        ("<thi<think>A</think>nk>B", "<think>B", ("dropped <think>",)),
        ("", "", ()),
    ],
)
def test_lmms_eval(reply: str, text: str, steps: tuple[str, ...]) -> None:
    answer = lmms_eval(reply)
    assert (answer.text, answer.steps) == (text, steps)


def test_the_other_filters() -> None:
    assert as_is(" <think>A</think> B\n").text == " <think>A</think> B\n"
    assert stripped(" <think>A</think> B\n").text == "<think>A</think> B"
    assert set(REPLY_FILTERS) == {"as_is", "stripped", "lmms_eval", "evalkit"}


def test_markers() -> None:
    reply = "First, A is wrong. Answer: B? No. Final answer is: C."
    assert strip_reasoning(reply).text == reply
    assert after_marker(reply).text == "C."
    assert after_marker("Answer:").text == "Answer:"


@given(st.text(alphabet="<>/thinkanswer ABC:\n", max_size=80))
def test_evalkit_returns_a_reply_without_tags_unchanged(reply: str) -> None:
    answer = strip_reasoning(reply)
    if not answer.steps:
        assert answer.text == reply


PARTS = ("<think>", "</think>", "<analysis>", "</analysis>", "<thi", "nk>", "<", "ysis>", "</anal", "A", " ")


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
def test_lmms_eval_is_the_published_loop(reply: str) -> None:
    """Cut the first block from the whole text until there is none."""
    text = reply
    for tag in ("think", "analysis"):
        opening, closing = f"<{tag}>", f"</{tag}>"
        while (start := text.find(opening)) >= 0 and (end := text.find(closing, start)) >= 0:
            text = text[:start] + text[end + len(closing) :]
        if closing in text and opening not in text:
            text = text.split(closing)[-1]
    assert lmms_eval(reply).text == text.strip()


HOSTILE = ("<think>", "</think>", "<answer>", "answer ", "<think></think>", "<thi<think></think>nk>", "<analysis>x")


@pytest.mark.parametrize("part", HOSTILE)
def test_a_megabyte_is_filtered_in_linear_time(part: str) -> None:
    reply = part * (1_000_000 // len(part))
    for clean in (*REPLY_FILTERS.values(), after_marker):
        clean(reply)
