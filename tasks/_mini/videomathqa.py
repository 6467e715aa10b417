"""A miniature of VideoMathQA in the layout of its hub copy: nine questions about five videos with numbers on them, of
three lengths; each of them once with five options and four times with two. Two videos are without subtitles, one is a
Matroska file. Nine, because the published scorer loses questions that do not fill its last batch of eight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalkit.video.scenes import Scene

from .filming import cut, shoot, write_parquet, write_srt

VIDEOS: dict[str, list[Scene]] = {
    "vm_001.mp4": cut((4, "white", "2"), (4, "yellow", "+"), (4, "cyan", "3"), (4, "black", "?")),
    "vm_002.mp4": cut((20, "orange", "7"), (20, "blue", "4")),
    "vm_003.mkv": [Scene(0, 24, "gray"), *(Scene(t, t + 2, "yellow") for t in (2, 8, 14, 20))],
    "vm_004.mp4": cut((60, "red", "30"), (40, "green", "50"), (30, "purple", "20")),
    "vm_005.mp4": cut((8, "pink", "1"), (8, "brown", "2"), (8, "white", "6"), (16, "black", "")),
}
SUBTITLES = {
    "vm_001": [(0.0, 4.0, "This is the first number."), (8.5, 12.0, "And this\nis the second.")],
    "vm_002": [(1.0, 19.0, "Remember this number."), (21.0, 39.0, "Now multiply it by this one.")],
    "vm_004": [(0.5, 59.0, "Red has thirty."), (61.0, 99.0, "Green has fifty."), (101.0, 129.0, "Purple has twenty.")],
}

# video, length, category, question, right option, wrong ones, steps
_ROWS = [
    ("vm_001", "short", "Arithmetic", "What is the sum of the two numbers?", "5", "6|1|23|4", "2 and 3.|2 + 3 = 5."),
    ("vm_001", "short", "Counting", "How many pictures have a digit?", "2", "1|3|4|0", "Count them.|There are 2."),
    (
        "vm_002",
        "medium",
        "Arithmetic",
        "What is the product of the numbers?",
        "28",
        "11|3|74|24",
        "7 and 4.|7 * 4 = 28.",
    ),
    ("vm_002", "medium", "Puzzle", "Which number comes first?", "7", "4|0|3|11", "See the start.|It is 7."),
    ("vm_003", "short", "Counting", "How often does it turn yellow?", "4", "3|5|2|6", "Count.|There are 4."),
    ("vm_004", "long", "Chart", "Which colour has most?", "Green", "Red|Purple|Blue|Pink", "30, 50, 20.|50 is most."),
    ("vm_004", "long", "Statistics", "What is the sum of the numbers?", "100", "30|50|80|20", "30 + 50 + 20 = 100."),
    ("vm_005", "medium", "Statistics", "What is the mean of the numbers?", "3", "2|9|6|1", "1 + 2 + 6 = 9.|9 / 3 = 3."),
    ("vm_005", "medium", "Geometry Area", "What is the area of a 2 by 6 rectangle?", "12", "8|6|2|16", "2 * 6 = 12."),
]


def write(root: Path) -> None:
    """mcq/ and multi_binary/ tables, videos/ and subtitles/."""
    for name, timeline in VIDEOS.items():
        shoot(root / "videos" / name, timeline, fps=4)
    for stem, lines in SUBTITLES.items():
        write_srt(root / "subtitles" / f"{stem}.srt", lines)
    mcq: list[dict[str, Any]] = []
    binary: list[dict[str, Any]] = []
    for number, (video, length, category, question, right, wrong, steps) in enumerate(_ROWS):
        row = {"videoID": video, "question_id": 900 + number, "category": category, "question": question}
        rest = {"steps": json.dumps(steps.split("|")), "length": length}
        others = wrong.split("|")
        place = number * 2 % 5
        mcq.append({**row, **_lettered([*others[:place], right, *others[place:]], right), **rest})
        for k, other in enumerate(others):
            pair = [right, other] if (number + k) % 2 else [other, right]
            binary.append({**row, **_lettered(pair, right), **rest})
    write_parquet(root / "mcq" / "test-00000-of-00001.parquet", mcq)
    write_parquet(root / "multi_binary" / "test-00000-of-00001.parquet", binary)


def _lettered(options: list[str], right: str) -> dict[str, Any]:
    lettered = [f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False)]
    return {"options": lettered, "answer": "ABCDE"[options.index(right)]}
