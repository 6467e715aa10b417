"""SubRip files, and which lines go with which frames, against the loops they replace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import SampleError
from evalkit.tasks._mini.filming import write_srt
from evalkit.tasks._subtitles import Line, font_rows, in_font, read_srt, spoken, spoken_as_lmms_eval, untagged
from evalkit.types import FramePlan

TAGGED = '<font color="white" size=".72c">{}</font>'.format


def srt(tmp_path: Path, text: str, name: str = "a.srt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_a_file_as_youtube_writes_it(tmp_path: Path) -> None:
    path = srt(
        tmp_path,
        f"1\n00:00:00,160 --> 00:00:02,399\n{TAGGED('hello')}\n\n"
        "2\n01:02:03,004 --> 01:02:05,500\nfirst row\nsecond row\n",
    )
    assert read_srt(path) == (Line(0.16, 2.399, TAGGED("hello")), Line(3723.004, 3725.5, "first row second row "))


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    first = "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\nhello\r\n\r\n"
    path = srt(tmp_path, first + "2\r\n00:00:03.500 --> 00:00:04.250\r\nbye\r\n")
    assert read_srt(path) == (Line(1.0, 2.0, "hello"), Line(3.5, 4.25, "bye "))


def test_sections_without_text_are_left_out_and_the_same_time_is_overwritten(tmp_path: Path) -> None:
    path = srt(
        tmp_path,
        "1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:02,000 --> 00:00:03,000\nfirst\n\n\n\n"
        "3\n00:00:05,000 --> 00:00:06,000\nother\n\n4\n00:00:02,000 --> 00:00:03,000\nlast",
    )
    assert [line.text for line in read_srt(path)] == ["last", "other"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"1\n00:00:01 --> 00:00:02\nhi\n", "damaged", r"section 1 has '00:00:01 --> 00:00:02' for its time"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nhi\n\nI\nwas\ncut\n", "damaged", r"section 2 has 'was' for its time"),
        (b"1\n00:00:01,000 --> 00:00:02,000\n\xff\xfe\n", "damaged", "utf-8"),
        (None, "missing", "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_so(tmp_path: Path, content: bytes | None, kind: str, message: str) -> None:
    path = tmp_path / "bad.srt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SampleError, match=message) as caught:
        read_srt(path)
    assert caught.value.kind == kind
    assert str(path) in str(caught.value)


def test_the_two_rules_for_text(tmp_path: Path) -> None:
    assert in_font(TAGGED("a <i>b</i>")) == "a <i>b</i>"
    assert in_font(TAGGED("one") + TAGGED("two")) == "one"
    assert in_font('<font color="red">no</font>') is None
    assert in_font("no tag") is None
    assert untagged(TAGGED("a <i>b</i>") + " c") == "a b c"
    assert untagged("2 < 3 and 5 > 4") == "2 < 3 and 5 > 4"
    rows = ["1", "00:00:01,000 --> 00:00:02,000", TAGGED("a"), "no tag", TAGGED("b"), "", TAGGED("late"), ""]
    path = srt(tmp_path, "\n".join(rows))
    assert font_rows(path) == ["a", "b", "late"]


@given(
    st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 3000)), max_size=20),
    st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True),
    st.sampled_from([1.0, 8.0, 23.976, 25.0, 29.97, 59.94]),
)
def test_spoken_is_the_published_double_loop(
    times: list[tuple[int, int]], indices: list[int], native_fps: float
) -> None:
    lines = [Line(start / 1000, (start + length) / 1000, str(i)) for i, (start, length) in enumerate(times)]
    plan = FramePlan(tuple(sorted(indices)), (), native_fps, 301, "uniform")
    kept = set()
    for index in plan.indices:
        for place, line in enumerate(lines):
            if int(line.start_s * native_fps) <= index < int(line.end_s * native_fps):
                kept.add(place)
    assert spoken(lines, plan) == [lines[i] for i in sorted(kept)]


@pytest.mark.parametrize(
    ("places", "order"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([6, 7, 8], [8, 6, 7]),
        ([5, 14, 23], [5, 14, 23]),
        ([30, 31, 32, 33], [32, 33, 30, 31]),
        ([8, 16, 0], [8, 16, 0]),  # all in one slot of the table: the order of the frames
        (list(range(20, 60, 3)), [32, 35, 38, 41, 44, 47, 50, 20, 53, 23, 56, 26, 59, 29]),
    ],
)
def test_lmms_eval_joins_a_set_of_line_numbers(places: list[int], order: list[int]) -> None:
    """`places`: the numbers of the spoken lines in the order of their frames; `order`: as lmms-eval joins them."""
    times = {place: float(2 * i) for i, place in enumerate(places)}
    lines = [Line(times.get(i, 1e6), times.get(i, 1e6) + 1, str(i)) for i in range(60)]
    plan = FramePlan(tuple(10 * 2 * i for i in range(len(places))), (), 10.0, 1000, "uniform")
    assert [line.text for line in spoken(lines, plan)] == [str(i) for i in sorted(places)]
    assert [line.text for line in spoken_as_lmms_eval(lines, plan)] == [str(i) for i in order]


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**5)), max_size=10, unique=True))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, times: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.mktemp("srt") / "a.srt"
    said = [(start / 1000, (start + length) / 1000, f"line {i}") for i, (start, length) in enumerate(times)]
    write_srt(path, said)
    read = read_srt(path)
    assert [line.text for line in read] == [text for *_, text in said]
    for line, (start, end, _) in zip(read, said, strict=True):
        assert (line.start_s, line.end_s) == (pytest.approx(start), pytest.approx(end))
    assert not re.search(r"-", path.read_text().replace("-->", ""))
