"""A miniature of LVBench in the official layout: video_info.meta.jsonl and videos/<key>.mp4.

One broadcast of an hour (at two frames a second) with sixteen questions, two videos of minutes; questions with two
labels; one that names a time with three-digit minutes; and one without a time reference, as in the real data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.video.scenes import Scene

from .filming import cut, length_s, shoot, write_jsonl

_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white")
_WORDS = ("SUN", "CAT", "CUP", "KEY", "DOG", "MAP", "BUS", "HAT")
_CAPABILITIES = {
    "KIR": "key information retrieval",
    "EU": "event understanding",
    "ER": "entity recognition",
    "TG": "temporal grounding",
    "Rea": "reasoning",
    "Sum": "summarization",
}

_Question = tuple[str, str, str, str, str]
"""(question, answer, other options, capabilities, time reference)"""


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _broadcast() -> tuple[list[Scene], list[_Question]]:
    """Sixteen blocks of 225 s, each of one colour with one word; two questions for every second block."""
    block_s = 225.0
    looks = [(_COLOURS[i % 8], _WORDS[(3 * i + i // 8) % 8]) for i in range(16)]
    timeline = cut(*((block_s, *look) for look in looks))
    questions: list[_Question] = []
    for i in range(0, 16, 2):
        colour, word = looks[i]
        start, end = _clock(timeline[i].start_s), _clock(timeline[i].end_s)
        others = "|".join([c for c in _COLOURS if c != colour][i % 4 :][:3])
        asked = f"What colour is the picture between {start} and {end}?"
        questions.append((asked, colour, others, "ER TG" if i % 4 else "ER", f"{start}-{end}"))
        others = "|".join([w for w in _WORDS if w != word][i % 4 :][:3])
        at = _clock(timeline[i].start_s + 100)
        questions.append((f"Which word is shown at {at}?", word, others, "KIR" if i % 4 else "KIR TG EU", f"{at}-{at}"))
    return timeline, questions


_CARTOON = cut((20, "blue", "101:21"), (15, "red", "", "white"), (20, "green", "FOX"), (25, "yellow", "", "black"))
_CARTOON_QUESTIONS: list[_Question] = [
    ("What colour is the picture when the clock shows 101:21?", "Blue", "Red|Green|Pink", "KIR", "00:00-00:20"),
    ("What crosses the red picture?", "A white square", "A fox|A black square|Nothing", "EU ER", "00:20-00:35"),
    ("Which animal is named?", "A fox", "A cat|A dog|A bird", "ER", "00:35-00:55"),
    ("What follows the fox?", "A black square", "A clock|A white square|The end", "TG EU", "00:55-01:20"),
    ("How many colours fill the picture in turn?", "4", "3|5|6", "Rea", "00:00-01:20"),
    (
        "Which colours come first and last?",
        "Blue and yellow",
        "Red and green|Blue and red|Green and yellow",
        "TG",
        "00:00-01:20",
    ),
    ("What is the video about?", "Coloured pictures", "A football match|Cooking|A journey", "Sum", "None-None"),
]

_MATCH = [
    Scene(0, 150, "green", "0:0"),
    Scene(60, 110, "green", "1:0"),
    Scene(110, 150, "green", "1:2"),
    Scene(75, 79, "red"),
]
_MATCH_QUESTIONS: list[_Question] = [
    ("What is the score at the end?", "1:2", "1:0|0:0|2:2", "KIR", "01:50-02:30"),
    ("What is the score at 01:30?", "1:0", "0:0|1:2|2:0", "KIR TG", "01:00-01:50"),
    ("What colour flashes while the score is 1:0?", "Red", "Blue|Yellow|White", "EU", "01:15-01:19"),
    ("How many goals fall?", "3", "1|2|4", "Rea", "00:00-02:30"),
    ("Who leads first?", "The side named first", "The side named second|Neither|Both", "Rea EU", "01:00-01:00"),
    ("What colour is the picture before the first goal?", "Green", "Gray|Red|Blue", "ER", "00:00-01:00"),
    ("When does the score change for the second time?", "01:50", "00:50|01:10|02:20", "TG", "01:50-01:50"),
]


def _row(key: str, kind: str, fps: float, timeline: list[Scene], asked: list[_Question], uid: int) -> dict[str, Any]:
    qa = []
    for number, (question, answer, others, capabilities, reference) in enumerate(asked):
        place = (uid + number) % 4
        options = others.split("|")
        options.insert(place, answer)
        lines = "".join(f"\n({letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
        qa.append(
            {
                "uid": str(uid + number),
                "question": question + lines,
                "answer": "ABCD"[place],
                "question_type": [_CAPABILITIES[code] for code in capabilities.split()],
                "time_reference": reference,
            }
        )
    info = {"duration_minutes": length_s(timeline) / 60, "fps": fps, "resolution": {"width": 128, "height": 96}}
    return {"key": key, "type": kind, "qa": qa, "video_info": info}


def write(root: Path) -> None:
    broadcast, broadcast_questions = _broadcast()
    videos = (
        ("hourlonglve", "live", 2.0, broadcast, broadcast_questions),
        ("minicartoon", "cartoon", 8.0, _CARTOON, _CARTOON_QUESTIONS),
        ("minifootbal", "sport", 8.0, _MATCH, _MATCH_QUESTIONS),
    )
    rows, uid = [], 0
    for key, kind, fps, timeline, asked in videos:
        shoot(root / "videos" / f"{key}.mp4", timeline, fps)
        rows.append(_row(key, kind, fps, timeline, asked, uid))
        uid += len(asked)
    write_jsonl(root / "video_info.meta.jsonl", rows)
