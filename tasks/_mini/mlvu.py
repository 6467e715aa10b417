"""A miniature of MLVU in the official layout.

Tasks of unequal size, so that the macro and the micro mean part; one film that two tasks ask about; and two rows as
dirty as the real ones: an answer that is not among its candidates, and a candidate that stands there twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.video.scenes import Scene

from .filming import cut, length_s, shoot, write_json

_MOVIE = cut((12, "blue", "HOME"), (10, "yellow", "", "red"), (14, "green", "SHOP"), (8, "black", "END"))
_NEEDLES = [Scene(0, 90, "gray", "LECTURE"), Scene(31, 33, "red", "KEY"), Scene(70, 72, "cyan", "CAT")]
_WALK = cut((6, "brown", "DOOR"), (6, "orange", "", "blue"), (6, "white", "CUP"), (6, "pink", "3"))

DEV_VIDEOS: dict[str, list[Scene]] = {
    "1_plotQA/movie101_1.mp4": _MOVIE,
    "2_needle/needle_1.mp4": _NEEDLES,
    "3_ego/ego_1.mp4": _WALK,
    "4_count/count_1.mp4": [Scene(0, 20, "black"), *(Scene(t, t + 2, "yellow") for t in (2, 8, 15))],
    "4_count/count_2.mp4": [Scene(0, 26, "white"), *(Scene(t, t + 2, "purple") for t in (1, 6, 11, 16, 22))],
    "5_order/order_1.mp4": cut((5, "red"), (5, "green"), (5, "blue"), (5, "yellow")),
    "5_order/order_2.mp4": cut((4, "cyan", "4"), (4, "pink", "1"), (4, "brown", "3"), (4, "white", "2")),
    "6_anomaly_reco/surveil_1.mp4": cut((4, "gray", "", "green"), (2, "red", "FIRE"), (3, "gray")),
    "7_topic_reasoning/movie101_1.mp4": _MOVIE,
    "7_topic_reasoning/documentary_1.mp4": cut((6, "cyan", "SEA"), (6, "blue", "SHIP"), (6, "cyan", "SEA")),
}

# File -> (question, candidates, answer). The question_type is the file's, as in the real data.
_DEV: dict[str, list[tuple[str, str, str]]] = {
    "1_plotQA/movie101_1.mp4": [
        ("Which word is shown on the blue picture?", "SHOP|HOME|END|DOOR", "HOME"),
        ("What crosses the yellow picture?", "A red square|A blue square|A cat|Nothing", "A red square"),
        ("What is the colour of the picture with the word SHOP?", "Blue|Red|Black|Green", "Green"),
        ("Which word ends the film?", "HOME|STOP|END|SHOP", "END"),
    ],
    "2_needle/needle_1.mp4": [
        ("What is the colour of the picture with the word KEY?", "Blue|Gray|Red|Green", "Red"),
        ("Which word is shown on the cyan picture?", "CAT|DOG|KEY|SUN", "CAT"),
        ("Which word is shown most of the time?", "KEY|CAT|SCHOOL|NONE", "LECTURE"),
        ("Which word appears before CAT but after the lecture has begun?", "SUN|KEY|DOG|CUP", "KEY"),
    ],
    "3_ego/ego_1.mp4": [
        ("What did I see on the white picture?", "A key|A door|A bowl|A cup", "A cup"),
        ("What is the colour of the square that moved?", "Red|Blue|Green|Blue", "Blue"),
        ("Which number did I see at the end?", "1|2|3|4", "3"),
    ],
    "4_count/count_1.mp4": [
        ("How many times does the picture turn yellow?", "3|1|5|2", "3"),
    ],
    "4_count/count_2.mp4": [
        ("How many times does the picture turn purple?", "6|5|4|3", "5"),
    ],
    "5_order/order_1.mp4": [
        (
            "Arrange the following events in the order of the video: (1) blue; (2) red; (3) yellow; (4) green.",
            "1->2->3->4|2->4->1->3|4->3->2->1|3->1->2->4",
            "2->4->1->3",
        ),
    ],
    "5_order/order_2.mp4": [
        (
            "Arrange the following events in the order of the video: (1) pink; (2) white; (3) brown; (4) cyan.",
            "1->2->3->4|2->4->1->3|3->1->2->4|4->1->3->2",
            "4->1->3->2",
        ),
    ],
    "6_anomaly_reco/surveil_1.mp4": [
        (
            "Does this surveillance footage contain any anomaly? If yes, which kind?",
            "Burglary|No anomaly|Arson|Explosion",
            "Arson",
        ),
    ],
    "7_topic_reasoning/movie101_1.mp4": [
        ("Where does the film begin?", "At sea|At home|In a shop|In a school", "At home"),
        ("How many different words are shown in the film?", "3|2|4|5", "3"),
    ],
    "7_topic_reasoning/documentary_1.mp4": [
        ("What is the topic of the video?", "Cooking|Cats|The sea|Football", "The sea"),
        ("What is the main colour of the video?", "Red|Yellow|Black|Cyan", "Cyan"),
    ],
}

_TYPES = {"2_needle": "findNeedle"}


def write(root: Path) -> None:
    """Dev: json/<task>.json and video/<task>/<file>.mp4."""
    for name, timeline in DEV_VIDEOS.items():
        shoot(root / "video" / name, timeline)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, asked in _DEV.items():
        stem, file = name.split("/")
        video = {"video": file, "duration": length_s(DEV_VIDEOS[name])}
        rows.setdefault(stem, []).extend(
            {
                **video,
                "question": question,
                "candidates": candidates.split("|"),
                "answer": answer,
                "question_type": _TYPES.get(stem, stem[2:]),
            }
            for question, candidates, answer in asked
        )
    for stem, part in rows.items():
        write_json(root / "json" / f"{stem}.json", part)
