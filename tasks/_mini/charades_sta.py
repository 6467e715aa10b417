"""A miniature of Charades-STA in the official layout: four videos with one to five sentences each.

One span ends after its video does, one sentence contains ">>>" (which breaks tools that join their keys with it), and
the table of durations lies beside the annotations.
"""

from __future__ import annotations

from pathlib import Path

from evalkit.video.scenes import Scene

from .filming import cut, length_s, shoot

VIDEOS: dict[str, list[Scene]] = {
    "AAAA1": cut((6, "gray"), (7, "red", "CUP"), (9, "gray"), (8, "blue", "", "white")),
    "AAAA2": cut((10, "white"), (10, "green"), (4, "yellow", "KEY")),
    "BBBB3": cut((5, "black", "1"), (5, "black", "2"), (5, "black", "3"), (20, "purple")),
    "CCCC4": cut((12, "orange", "DOOR"), (9, "cyan")),
}

LINES = (
    ("AAAA1", 6.0, 13.0, "person shows a red picture with the word cup."),
    ("AAAA1", 22.0, 30.0, "a white square moves across the blue picture."),
    ("AAAA2", 10.0, 20.0, "the picture is green."),
    ("BBBB3", 0.0, 5.0, "the number 1 is shown."),
    ("BBBB3", 5.0, 10.0, "the number 2 is shown."),
    ("BBBB3", 10.0, 15.0, "the number 3 is shown."),
    ("AAAA2", 20.0, 25.2, "the word key is shown until the end."),  # the video ends at 24.0
    ("BBBB3", 0.0, 15.0, "the numbers go up: 1>>>2>>>3."),
    ("BBBB3", 15.0, 35.0, "the picture is purple"),
    ("CCCC4", 0.0, 12.1, "person opens the door."),
)


def write(root: Path) -> None:
    """charades_sta_test.txt, Charades_v1_test.csv and videos/<video>.mp4."""
    for video, timeline in VIDEOS.items():
        shoot(root / "videos" / f"{video}.mp4", timeline, size=(64, 96))
    lines = (f"{video} {start} {end}##{sentence}\n" for video, start, end, sentence in LINES)
    (root / "charades_sta_test.txt").write_text("".join(lines), encoding="utf-8")
    lengths = (f"{video},{length_s(timeline):.2f}\n" for video, timeline in VIDEOS.items())
    (root / "Charades_v1_test.csv").write_text("id,length\n" + "".join(lengths), encoding="utf-8")
