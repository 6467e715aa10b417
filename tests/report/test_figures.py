"""Figures: places against values, round ticks, the front, and colours that can be read in both modes."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.report import numbers
from evalkit.report.figures import Bar, Point, heatmap, pareto, scatter, slices
from evalkit.report.scales import linear, logarithmic

SVG = "{http://www.w3.org/2000/svg}"
values = st.lists(st.floats(0.01, 1e12), min_size=1, max_size=8)
points = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12)


def drawn(figure: object) -> ElementTree.Element:
    return ElementTree.fromstring(figure.svg(standalone=True))  # type: ignore[attr-defined]


def point(letter: str, x: float, y: float, series: str = "") -> Point:
    return Point(letter, x, y, y - 2, y + 2, f"{letter} & <co>", (series,))


@pytest.mark.parametrize("make", [linear, logarithmic])
@given(found=values)
def test_scales_keep_order_and_stay_inside(make, found: list[float]) -> None:  # type: ignore[no-untyped-def]
    scale = make(found, 10.0, 110.0)
    places = [scale(v) for v in sorted(found)]
    assert places == sorted(places) and places[0] >= 10 and places[-1] <= 110
    assert all(scale.low * 0.999 <= tick <= scale.high * 1.001 for tick in scale.ticks)
    assert 1 <= len(scale.ticks) <= 8 and list(scale.ticks) == sorted(set(scale.ticks))


def test_frames_get_powers_of_two_and_seconds_powers_of_ten() -> None:
    assert logarithmic([128, 256, 512], 0, 100).ticks == (128, 256, 512)
    assert logarithmic([0.01, 20], 0, 100).ticks == (0.01, 0.1, 1, 10)


@given(points)
def test_the_front_is_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    """Against the definition, pair by pair; of equal points one stands for all."""
    made = [Point("", x, y, None, None, "") for x, y in places]
    front = {(p.x, p.y) for p in pareto(made)}
    beaten = {(x, y) for x, y in places if any((a <= x and b > y) or (a < x and b >= y) for a, b in places)}
    assert front == set(places) - beaten


def test_points_and_whiskers_stand_at_their_values() -> None:
    made = [point("A", 100, 40), point("B", 400, 60), point("C", 200, 50)]
    root = drawn(scatter("f", "t", "n", made, "bytes", "bytes", "accuracy", front=True))
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter(f"{SVG}circle")]
    (ax, ay), (bx, by), (cx, cy) = circles
    assert ax < cx < bx and ay > cy > by
    assert (cx - ax) == pytest.approx(bx - cx, abs=0.3), "200 is half way from 100 to 400 on a logarithmic axis"
    assert (ay - cy) == pytest.approx(cy - by, abs=0.3)
    whiskers = [w for w in root.iter(f"{SVG}line") if w.get("class") == "whisker"]
    assert [(float(w.get("y1", "")) + float(w.get("y2", ""))) / 2 for w in whiskers] == pytest.approx(
        [ay, by, cy], abs=0.2
    )
    assert "&amp; &lt;co&gt;" in scatter("f", "t", "n", made, "b", "bytes", "a").svg()


def test_letters_of_neighbours_do_not_cover_each_other() -> None:
    made = [point(chr(65 + i), 100 + i, 50 + 0.1 * i) for i in range(8)]
    root = drawn(scatter("f", "t", "n", made, "frames", "count", "accuracy"))
    letters = [t for t in root.iter(f"{SVG}text") if t.get("class") == "letter"]
    places = [(float(t.get("x", "")), float(t.get("y", ""))) for t in letters]
    apart = [max(abs(a - c), abs(b - d)) for i, (a, b) in enumerate(places) for c, d in places[:i]]
    assert min(apart) > 6


def test_series_are_joined_and_others_are_not() -> None:
    made = [point("A", 1, 40, "x"), point("B", 2, 60, "x"), point("C", 2, 50, "y")]
    root = drawn(scatter("f", "t", "n", made, "ratio", "ratio", "accuracy"))
    assert len(list(root.iter(f"{SVG}polyline"))) == 1


def test_bars_are_as_long_as_their_values() -> None:
    bars = [Bar("A", 25.0, 20.0, 30.0, 7, "a"), Bar("B", 75.0, None, None, 7, "b")]
    root = drawn(slices("f", "t", "n", [("label", bars)], "accuracy"))
    short, long = (float(r.get("width", "")) for r in root.iter(f"{SVG}rect") if r.get("class") == "bar")
    assert long == pytest.approx(3 * short, abs=0.2)


def test_a_heatmap_has_every_cell_and_leaves_unasked_ones_empty() -> None:
    cells = {("0", "128"): (100.0, 4), ("1", "128"): (0.0, 4), ("0", "256"): (50.0, 2)}
    root = drawn(heatmap("f", "t", "n", ["128", "256"], ["0", "1"], cells))
    heat = [float(r.get("fill-opacity", "")) for r in root.iter(f"{SVG}rect") if r.get("class") == "heat"]
    assert sorted(heat) == [0.0, 0.5, 1.0]
    assert len([r for r in root.iter(f"{SVG}rect") if r.get("class") == "empty"]) == 4


def test_numbers_as_people_read_them() -> None:
    assert [numbers.size(v) for v in (0, 512, 1024, 1.5 * 2**30, None)] == ["0 B", "512 B", "1.0 KiB", "1.5 GiB", "–"]
    assert [numbers.seconds(v) for v in (0.0042, 1.26, 1234.5)] == ["4 ms", "1.3 s", "1,234 s"]
    assert [numbers.clock(v) for v in (0, 61.9, 3661)] == ["0:00", "1:01", "1:01:01"]
    assert numbers.flops(1.06e17) == "106 PFLOP" and numbers.interval(1, None) == "–"


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_can_be_read(mode: int) -> None:
    """WCAG 2 AA: 4.5 for text, 3 for what a figure draws."""
    css = files("evalkit.report").joinpath("templates/colours.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", css)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[mode]))
    for ink in ("ink", "soft", "accent", "good", "bad", "warn"):
        for ground in ("ground", "raised"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}"
    for ink, ground in (("on-accent", "accent"), ("warn", "warn-wash"), ("bad", "bad-wash")):
        assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}"
    assert contrast(colours["accent"], colours["ground"]) >= 3
    assert math.isclose(contrast("#000000", "#ffffff"), 21)
