"""A miniature of LongVideoBench in the official layout: both splits, all four length groups, three to five options.

Its subtitles have what the real ones have: two file forms, the times of the video it was cut from, an end that is a
whole number or missing, lines that no frame of one a second falls into, and questions that quote them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from evalkit.video.scenes import Scene

from .filming import cut, length_s, shoot, write_json


class Film(NamedTuple):
    group: int  # duration_group
    timeline: list[Scene]
    fps: float
    offset_s: float
    subtitles: list[dict[str, Any]]


class Asked(NamedTuple):
    """`options` between bars, the right one first; it is put at place `gold`."""

    film: str
    category: str
    topic: str
    question: str
    options: str
    gold: int


def _stamped(start_s: float, end_s: float | int | None, text: str) -> dict[str, Any]:
    return {"timestamp": [start_s, end_s], "text": text}


def _clocked(start_s: float, end_s: float, line: str) -> dict[str, Any]:
    return {"start": _clock(start_s), "end": _clock(end_s), "line": line}


def _clock(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{thousandths:03}"


_CHAPTERS = ("red", "green", "blue", "yellow", "cyan")

FILMS: dict[str, Film] = {
    "mini_a": Film(
        15,
        cut((4, "red", "CUP"), (4, "blue", "HAT"), (4, "green", "KEY")),
        8,
        312.4,
        [
            _clocked(308.0, 311.0, "before the clip begins"),
            _clocked(313.0, 315.9, "here is what I drink from"),
            _clocked(316.9, 319.9, "and this keeps me warm"),
            _clocked(320.9, 324.0, "with this I open the door"),
        ],
    ),
    "mini_b": Film(
        60,
        cut((10, "white", "ONE"), (10, "orange", "TWO"), (10, "purple", "THREE"), (10, "black", "", "pink")),
        8,
        0,
        [
            _stamped(0.5, 3.5, "let us count"),
            _stamped(5.4, 5.6, "a word between two seconds"),
            _stamped(12.8, 13.2, "two"),
            _stamped(24.0, 28, "an end that is a whole number"),
            _stamped(33.0, None, "something is moving"),
        ],
    ),
    "mini_c": Film(
        600,
        cut(*((40, colour, str(i)) for i, colour in enumerate(_CHAPTERS, 1))),
        2,
        0,
        [_stamped(40.0 * i + 5, 40.0 * i + 9.5, f"this is chapter {i + 1}") for i in range(5)],
    ),
    "mini_d": Film(
        3600,
        [Scene(0, 905, "gray", "TALK"), Scene(300, 330, "pink", "CAT"), Scene(600, 630, "brown", "DOG")],
        2,
        0,
        [
            _clocked(10, 14.2, "welcome to the talk"),
            _clocked(305, 311, "my favourite animal"),
            _clocked(605, 611, "my neighbour's animal"),
        ],
    ),
    "mini_t": Film(
        15,
        cut((5, "yellow", "SUN"), (5, "black", "MOON")),
        8,
        0,
        [_stamped(1.0, 4.0, "good morning"), _stamped(6.0, 9.0, "good night")],
    ),
}

VAL = [
    Asked(
        "mini_a",
        "T2O",
        "LV-Life-Vlogs",
        "When the subtitle says 'and this keeps me warm', which word is shown?",
        "HAT|CUP|KEY|SUN|CAT",
        4,
    ),
    Asked(
        "mini_b",
        "S2E",
        "KA-Knowledge-Art",
        "On the black picture, what happens?",
        "A square moves|Nothing|A cup falls",
        1,
    ),
    Asked(
        "mini_b",
        "T2A",
        "KA-Knowledge-Art",
        "When the subtitle says 'two', what is the colour of the picture?",
        "Orange|White|Purple|Black",
        2,
    ),
    Asked("mini_c", "SSS", "KH-Knowledge-History", "Which colour comes third?", "Blue|Red|Green|Yellow|Cyan", 0),
    Asked(
        "mini_c",
        "T3E",
        "KH-Knowledge-History",
        "What colour follows the chapter with the subtitle 'this is chapter 3'?",
        "Yellow|Blue|Cyan|Red",
        3,
    ),
    Asked("mini_d", "O2E", "NP-News-Programs", "On which colour is the word DOG shown?", "Brown|Pink|Gray|Blue|Red", 1),
    Asked(
        "mini_d", "T2E", "NP-News-Programs", "Which word is shown at 'my favourite animal'?", "CAT|DOG|TALK|HAT|SUN", 2
    ),
    Asked("mini_d", "O3O", "NP-News-Programs", "Which word is shown after CAT and before DOG?", "TALK|HAT|SUN|KEY", 0),
]
TEST = [
    Asked("mini_t", "T2O", "LV-Life-Vlogs", "Which word is shown at 'good night'?", "MOON|SUN|CAT|DOG|KEY", 3),
    Asked("mini_t", "SSS", "LV-Life-Vlogs", "Which colour comes first?", "Yellow|Black|Red|Blue", 2),
]


def write(root: Path) -> None:
    """lvb_val.json, lvb_test_wo_gt.json, videos/<id>.mp4, subtitles/<id>_en.json."""
    for name, film in FILMS.items():
        shoot(root / "videos" / f"{name}.mp4", film.timeline, film.fps, size=(64, 96))
        write_json(root / "subtitles" / f"{name}_en.json", film.subtitles)
    write_json(root / "lvb_val.json", _rows(VAL))
    hidden = [{k: v for k, v in row.items() if k != "correct_choice"} for row in _rows(TEST)]
    write_json(root / "lvb_test_wo_gt.json", hidden)


def _rows(asked: list[Asked]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for a in asked:
        film = FILMS[a.film]
        right, *candidates = a.options.split("|")
        candidates.insert(a.gold, right)
        rows.append(
            {
                "video_id": a.film,
                "question": a.question,
                "question_wo_referring_query": a.question,
                "candidates": candidates,
                "correct_choice": a.gold,
                "position": [0],
                "topic_category": a.topic,
                "question_category": a.category,
                "level": "L1-Perception" if "2" in a.category else "L2-Relation",
                "id": f"{a.film}_{sum(row['video_id'] == a.film for row in rows)}",
                "video_path": f"{a.film}.mp4",
                "subtitle_path": f"{a.film}_en.json",
                "duration_group": film.group,
                "starting_timestamp_for_subtitles": film.offset_s,
                "duration": length_s(film.timeline),
                "view_count": 10,
            }
        )
    return rows
