from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import ConfigError
from evalkit.scoring.grade import Span
from evalkit.scoring.spans import SPAN_PARSERS, iou, span_parser
from evalkit.types import Question

A, B = (24.3, 30.4), (12.5, 20.0)
# reply, T1, T2, T3, T5, tolerant
TRUTH_TABLE = [
    ("The event happens in the 24.3 - 30.4 seconds.", A, A, A, None, A),
    ("24.3 to 30.4", A, None, A, A, A),
    ("From 24.3s to 30.4s", A, None, None, None, A),
    ("starts at 5 seconds and ends at 9 seconds", None, None, None, None, (5, 9)),
    ("start time is 12.5\nend time is 20.0", B, B, B, None, B),
    ("00:05 - 00:12", (5, 12), None, (0, 5), None, (5, 12)),
    ("happens from 0:05 to 0:12", (5, 12), (0, 5), (0, 5), (5, 0), (5, 12)),
    ("[3.2, 8.9]", None, None, None, None, (3.2, 8.9)),
    ("between 3.2 and 8.9 seconds", None, None, None, (3.2, 8.9), (3.2, 8.9)),
    ("event happens in 1.0 - 2.0 and 5.0 - 9.0", (1, 2), (1, 2), (1, 2), (2, 5), (1, 2)),
]


@pytest.mark.parametrize("row", TRUTH_TABLE, ids=lambda row: row[0])
def test_truth_table(row: tuple) -> None:
    reply, *expected = row
    assert [SPAN_PARSERS[name].parse(reply).span for name in ("T1", "T2", "T3", "T5", "T+")] == expected


@pytest.mark.parametrize(
    ("reply", "videochat_flash", "timesuite"),
    [("24.3 to 30.4", (24.3, 30.4), None), ("at 24.3 - 30.4", (24.3, 30.4), (24.3, 30.4)), ("9 - 3", (3, 9), (3, 9))],
)
def test_timesuite_has_no_to(reply: str, videochat_flash: tuple, timesuite: tuple | None) -> None:
    assert span_parser("T3").parse(reply).span == videochat_flash
    assert span_parser("T4").parse(reply).span == timesuite


def test_prompt_example_is_not_an_answer() -> None:
    assert span_parser("T1").parse("A specific example is : 20.8 - 30.0 seconds").span is None


def test_malformed_number_is_a_miss_where_the_original_crashes() -> None:
    assert span_parser("T3").parse("happens in 1..5 - 7").span is None


@pytest.mark.parametrize(
    ("reply", "span"),
    [
        ("1:02:03 until 1:02:10", (3723, 3730)),
        ("from 1 min 5 s to 1 min 20 s", (65, 80)),
        ("2.5s–7s", (2.5, 7)),
        ("The person starts to laugh at 3.5 and stops at 8.", (3.5, 8)),
        ("In scene 3 it lasts from 10 seconds up, ending at about 15 seconds", (10, 15)),
        ("(0.0, 12.25)", (0, 12.25)),
        ("Start: 4s\nEnd: 9s", (4, 9)),
        ("12 ~ 15", (12, 15)),
        ("it never happens", None),
        ("at 7 seconds", None),
        ("frames 1, 2, 3 and 4", None),
    ],
)
def test_tolerant(reply: str, span: tuple | None) -> None:
    assert span_parser("tolerant").parse(reply).span == span


def slow_iou(a: tuple[float, float], b: tuple[float, float], step: float = 0.01) -> float:
    points = range(int(min(a[0], b[0]) / step), int(max(a[1], b[1]) / step))
    inside = [a[0] <= p * step < a[1] and b[0] <= p * step < b[1] for p in points]
    return sum(inside) / len(inside)


@pytest.mark.parametrize(("a", "b"), [((0, 4), (2, 8)), ((1, 2), (5, 9)), ((0, 10), (3, 5)), ((2.5, 7.5), (2.5, 7.5))])
def test_iou_by_counting(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert iou(a, b) == pytest.approx(slow_iou(a, b), abs=0.01)


spans = st.tuples(st.floats(0, 500), st.floats(0, 500))


@given(spans, spans)
def test_iou_is_symmetric_and_bounded(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1


def test_thresholds_are_inclusive_and_misses_count() -> None:
    question = Question("1", "q", gold=(0.0, 10.0), meta={"duration_s": 8.0})
    grade = Span("lmms_eval").grade(question, "happens in 0 - 5")
    assert grade.values == {"iou": 0.5, "R@0.3": 1, "R@0.5": 1, "R@0.7": 0, "iou_clip_gold": 5 / 8}
    assert grade.score == 0.5 and grade.extracted == (0, 5) and grade.valid
    miss = Span("lmms_eval", headline="R@0.5").grade(question, "no idea")
    assert (miss.score, miss.valid, miss.extracted) == (0, False, None)
    assert Span("lmms_eval").grade(Question("2", "q"), "0 - 5").score is None


def test_time_r1_does_not_swap() -> None:
    grade = Span("time_r1").grade(Question("1", "q", gold=(0.0, 10.0)), "<think>1 to 2</think><answer>9 to 1</answer>")
    assert grade.extracted == (9, 1) and grade.score == 0


def test_unknown_name_suggests() -> None:
    with pytest.raises(ConfigError, match='Did you mean "tolerant"'):
        Span("tolerent")


odd_text = st.one_of(st.text(), st.text(alphabet="0123456789.:-– tosand\nmin[],", max_size=120))


@given(odd_text)
def test_no_reply_raises(reply: str) -> None:
    for parser in SPAN_PARSERS.values():
        span = parser.parse(reply).span
        assert span is None or all(map(math.isfinite, span))
        assert span is None or not parser.ordered or span[0] <= span[1]


@pytest.mark.parametrize(
    "reply",
    [
        "1" * 1_000_000,
        "1." * 500_000,
        "1" + "." * 1_000_000,
        "start 1" + " " * 1_000_000 + "x",
        "1 " * 500_000,
        "1:23" * 250_000,
        "start 1\n" * 120_000,
        "to" * 500_000,
        "0:05 " + "-" * 1_000_000,
        "9" * 400 + " - " + "9" * 500,
        "1 min " * 150_000,
        "between " * 120_000,
    ],
    ids=lambda reply: reply[:12],
)
def test_megabytes_take_under_a_second(reply: str) -> None:
    for parser in SPAN_PARSERS.values():
        start = time.process_time()
        parser.parse(reply)
        assert time.process_time() - start < 1, parser.name
