"""A miniature of Video-MME in the layout of its hub copy: videomme/*.parquet, data/<id>.mp4, subtitle/<id>.srt.

Two videos a duration with three questions each; one of them Matroska; one without subtitles; subtitles that are too
short to be seen at a frame a second, outside the font tag, or over the same time twice; and options with apostrophes,
which change how a list of them is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.video.scenes import Scene

from .filming import cut, shoot, write_parquet, write_srt

_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
_WORDS = ("SUN", "CAT", "CUP", "KEY", "DOG", "MAP", "BUS", "HAT")


@dataclass(frozen=True)
class _Film:
    video_id: str
    stem: str
    duration: str
    domain: str
    sub_category: str
    timeline: list[Scene]
    questions: list[tuple[str, str, str, str]]
    """(task type, question, options without letters, right letter)"""
    fps: float = 8
    suffix: str = ".mp4"
    said: bool = True


def _blocks(number: int, seconds: float) -> list[Scene]:
    return cut(*((seconds, _COLOURS[i % 8], _WORDS[(5 * i) % 8]) for i in range(number)))


_FILMS = [
    _Film(
        "001", "miniShort_1", "short", "Knowledge", "Astronomy",
        cut((4, "black", "MOON"), (4, "yellow", "SUN"), (4, "blue", "", "white")),
        [
            ("OCR Problems", "Which word is shown on the black picture?", "Sun.|Moon.|Star.|It's empty.", "B"),
            ("Attribute Perception", "What is the colour of the moving square?", "White.|Blue.|Red.|Green.", "A"),
            ("Temporal Reasoning", "What comes right after the moon?", "The square.|The moon.|Nothing.|The sun.", "D"),
        ],
    ),
    _Film(
        "002", "miniShort-2", "short", "Sports Competition", "Other Sports",
        [Scene(0, 40, "green", "0:0"), Scene(12, 40, "green", "1:0"), Scene(20, 22, "red"), Scene(30, 32, "red")],
        [
            ("Counting Problem", "How often does the picture flash red?", "Once.|Twice.|Four times.|Never.", "B"),
            ("OCR Problems", "What is the score at the end?", "0:0|0:1|1:0|1:1", "C"),
            ("Temporal Perception", "When does the score change?", "At 00:02.|At 00:30.|At 00:38.|At 00:12.", "D"),
        ],
        said=False,
    ),
    _Film(
        "301", "mini_medium", "medium", "Artistic Performance", "Magic Show", _blocks(10, 30),
        [
            ("Object Recognition", "Which word is shown on the blue picture?", "BUS|SUN|CUP|MAP", "C"),
            ("Attribute Perception", "What colour has the picture with MAP?", "Green.|Red.|Cyan.|Orange.", "A"),
            ("Information Synopsis", "What does the video show?", "A dog.|A bus ride.|Coloured words.|A map.", "C"),
        ],
        fps=4,
    ),
    _Film(
        "302", "medium-2nd_", "medium", "Multilingual", "Multilingual", _blocks(16, 16),
        [
            ("Action Reasoning", "Which colour follows purple?", "Red.|White.|Orange.|Pink.", "C"),
            ("Counting Problem", "How often is the picture red?", "It isn't.|Once.|Three times.|Twice.", "D"),
            ("Spatial Perception", "Where do the words stand?", "In the middle.|Left.|Right.|Below.", "A"),
        ],
        fps=4, suffix=".mkv",
    ),
    _Film(
        "601", "longMinutes", "long", "Film & Television", "Animation", _blocks(31, 60),
        [
            ("Object Reasoning", "Which word is shown in the third minute?", "DOG|KEY|CUP|HAT", "C"),
            ("Action Recognition", "What happens each minute?", "A goal.|A new colour.|A song.|It ends.", "B"),
            ("Temporal Reasoning", "What colour comes first?", "Red.|Green.|Blue.|Yellow.", "A"),
        ],
        fps=1,
    ),
    _Film(
        "602", "long-minut2", "long", "Life Record", "Daily Life",
        [Scene(0, 1830, "gray", "ROOM"), Scene(600, 640, "red", "DOOR"), Scene(1500, 1560, "cyan", "CAT")],
        [
            ("Spatial Reasoning", "What is shown between the room and the room?", "A sea.|A door.|A car.|A tree.", "B"),
            ("Object Recognition", "Which animal appears?", "A cat.|A dog.|A bird.|A fish.", "A"),
            ("Action Reasoning", "What is seen most?", "The door.|The cat.|A garden.|The room.", "D"),
        ],
        fps=1,
    ),
]  # fmt: skip


def _said(film: _Film) -> list[tuple[float, float, str]]:
    """Each scene named at its start, in Video-MME's font tag; around the first, lines in unusual formats."""
    tagged = '<font color="white" size=".72c">{}</font>'.format
    lines = [(s.start_s + 0.5, s.end_s - 0.5, tagged(f"this is {s.colour} {s.text.lower()}")) for s in film.timeline]
    first = film.timeline[0]
    return [
        (first.start_s, first.start_s + 0.05, tagged("here we go")),
        *lines,
        (first.start_s + 1.3, first.start_s + 1.5, tagged("in a blink")),
        (first.start_s + 1.5, first.start_s + 2.5, "a line outside the tag"),
        (first.start_s + 2.0, first.start_s + 3.0, tagged("said first, over the same time")),
        (first.start_s + 2.0, first.start_s + 3.0, tagged("said last, over the same time")),
    ]


def write(root: Path) -> None:
    rows: list[dict[str, Any]] = []
    for film in _FILMS:
        shoot(root / "data" / f"{film.stem}{film.suffix}", film.timeline, film.fps)
        if film.said:
            write_srt(root / "subtitle" / f"{film.stem}.srt", _said(film))
        for number, (task_type, question, options, answer) in enumerate(film.questions, 1):
            rows.append(
                {
                    "video_id": film.video_id,
                    "duration": film.duration,
                    "domain": film.domain,
                    "sub_category": film.sub_category,
                    "url": f"https://www.youtube.com/watch?v={film.stem}",
                    "videoID": film.stem,
                    "question_id": f"{film.video_id}-{number}",
                    "task_type": task_type,
                    "question": question,
                    "options": [f"{letter}. {o}" for letter, o in zip("ABCD", options.split("|"), strict=True)],
                    "answer": answer,
                }
            )
    write_parquet(root / "videomme" / "test-00000-of-00001.parquet", rows)
