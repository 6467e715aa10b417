"""A miniature of NExT-QA in the official layout: two videos in VidOR's folders, eight questions each, of every family.

The CSV is what pandas writes of the original: no quotes unless needed, and options that hold commas.
"""

from __future__ import annotations

import csv
from pathlib import Path

from .filming import cut, shoot, write_json

VIDEOS = {
    "3238737531": ("1164", cut((4, "red", "CAT"), (4, "yellow", "", "blue"), (4, "green", "DOG"), (4, "black", "END"))),
    "4010069381": ("0001", cut((5, "white", "1"), (5, "cyan", "2"), (5, "orange", "", "purple"), (5, "gray", "3"))),
}

# video, type, question, options, number of the right one
_ROWS = [
    ("3238737531", "CW", "why does the picture turn black", "it ends|it is red|a dog came|it rains|a cat left", 0),
    ("3238737531", "CH", "how does the square move", "up|from left to right|down|not at all|in circles", 1),
    ("3238737531", "TN", "what is shown after the cat", "a dog|a word|a blue square|nothing, it is black|a bird", 2),
    ("3238737531", "TP", "what is shown before the dog", "the end|a cat|a bird|a blue square|a red square", 3),
    ("3238737531", "TC", "which word is shown while the picture is red", "dog|end|one|two|cat", 4),
    ("3238737531", "DC", "how many words are shown", "one|two|four|three|five", 3),
    ("3238737531", "DL", "where does the square start", "left|right|top|bottom|in the middle", 0),
    ("3238737531", "DO", "what is the colour of the picture with the dog", "red|black|green|yellow|blue", 2),
    ("4010069381", "CW", "why is the orange one special", "it is late|it is blue|it ends|a square crosses|nothing", 3),
    ("4010069381", "CH", "how does the video begin", "with a one|with a two|with a three|with a cat|with a dog", 0),
    ("4010069381", "TN", "what is shown after the one", "a cat|a two|a three|a square|a dog", 1),
    ("4010069381", "TN", "what happens at the end", "a one|a two|a three|a square|a cat", 2),
    ("4010069381", "TC", "what is shown while the picture is orange", "one|two|three|cat|a purple square", 4),
    ("4010069381", "DC", "how many numbers are shown", "two|three|one|five|four", 1),
    ("4010069381", "DO", "what is the colour of the picture with the two", "white|orange|gray|red|cyan", 4),
    ("4010069381", "DO", "is there a purple square", "yes|no|only at the end|only at the start|it is blue", 0),
]  # fmt: skip


def write(root: Path) -> None:
    """test.csv, map_vid_vidorID.json and NExTVideo/<folder>/<video>.mp4."""
    for video, (folder, timeline) in VIDEOS.items():
        shoot(root / "NExTVideo" / folder / f"{video}.mp4", timeline)
    write_json(root / "map_vid_vidorID.json", {video: f"{folder}/{video}" for video, (folder, _) in VIDEOS.items()})
    with (root / "test.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            [
                "video",
                "frame_count",
                "width",
                "height",
                "question",
                "answer",
                "qid",
                "type",
                *(f"a{i}" for i in range(5)),
            ]
        )
        asked: dict[str, int] = {}
        for video, kind, question, options, answer in _ROWS:
            qid = asked[video] = asked.get(video, -1) + 1
            frames = int(8 * VIDEOS[video][1][-1].end_s)
            table.writerow([video, frames, 128, 96, question, answer, qid, kind, *options.split("|")])
