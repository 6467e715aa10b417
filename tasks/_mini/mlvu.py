"""A miniature of MLVU in the official layout of both repositories, dev and test.

Tasks of unequal size, so that the macro and the micro mean part; one film that three tasks ask about; two rows as dirty
as the real ones, an answer that is not among its candidates and a candidate that stands there twice; a test split with
six options, the fifth and sixth of them right as well; and generation tasks with their scoring points.
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
    "8_sub_scene/subPlot_1.mp4": cut((8, "purple", "ROAD"), (9, "yellow", "CAR", "blue"), (8, "purple", "ROAD")),
    "9_summary/movie101_1.mp4": _MOVIE,
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

_CAPTION = (
    "Please describe the scene when the picture is yellow,\nincluding what moves in it.",
    "A yellow picture with the word CAR is shown for nine seconds, and a blue square crosses it from left to right.",
    ["The word CAR is shown", "A blue square crosses the picture", "It moves from left to right"],
)
_SUMMARY = (
    "Please summarize the main content of this video.",
    "The film shows a blue picture with the word HOME, a yellow one that a red square crosses, a green one with the "
    "word SHOP and a black one with the word END.",
)

TEST_VIDEOS: dict[str, list[Scene]] = {
    "test_film.mp4": _MOVIE,
    "test_walk.mp4": cut((6, "brown", "DOOR"), (6, "orange", "", "blue"), (9, "yellow", "CAR", "blue")),
    "test_game.mp4": [Scene(0, 30, "green", "0:0"), Scene(10, 30, "green", "1:0"), Scene(18, 20, "red")],
    "test_steps.mp4": cut((6, "white", "1"), (6, "orange", "2"), (6, "cyan", "3"), (6, "gray", "", "red")),
}

_ORDERS = "1->2->3|1->3->2|2->1->3|3->1->2|2->3->1|3->2->1"

# (id, question_type, file, question, six candidates, answer)
_TEST: list[tuple[str, str, str, str, str, str]] = [
    ("TR_0", "topic_reasoning", "test_film.mp4", "Where does it begin?", "Sea|Shop|School|Street|Home|Park", "Home"),
    ("TR_1", "topic_reasoning", "test_film.mp4", "How many words are shown?", "1|2|4|5|6|3", "3"),
    ("TR_2", "topic_reasoning", "test_game.mp4", "What is it about?", "Game|Trip|Meal|Cat|Ship|Rain", "Game"),
    ("AR_0", "anomaly_reco", "test_game.mp4", "Which anomaly is there?", "Fire|Fog|Rain|Night|Snow|Flash", "Flash"),
    ("NQA_0", "needleQA", "test_game.mp4", "Which colour flashes?", "Blue|Gray|Pink|White|Red|Cyan", "Red"),
    ("ER_0", "ego", "test_walk.mp4", "What did I see first?", "A door|A cup|A key|A dog|A bus|A map", "A door"),
    ("ER_1", "ego", "test_walk.mp4", "What crossed the picture?", "A cat|A square|A dog|A car|A bus|A man", "A square"),
    ("PQA_0", "plotQA", "test_film.mp4", "Which word is on green?", "HOME|END|SHOP|DOOR|CUP|KEY", "SHOP"),
    ("SQA_0", "sportsQA", "test_game.mp4", "What is the score at the end?", "0:0|0:1|2:0|1:0|1:1|2:2", "1:0"),
    ("AO_0", "order", "test_steps.mp4", "In which order: (1) cyan; (2) white; (3) orange?", _ORDERS, "2->3->1"),
    ("AC_0", "count", "test_steps.mp4", "How many numbers are shown?", "0|1|2|4|5|3", "3"),
    ("TQA_0", "tutorialQA", "test_steps.mp4", "What follows step 3?", "1|2|A square|A cup|A dog|4", "A square"),
]


def write(root: Path) -> None:
    """Dev: json/<task>.json and video/<task>/<file>.mp4. Test: test-ground-truth/*.json and MLVU_Test/video/."""
    for name, timeline in DEV_VIDEOS.items():
        shoot(root / "video" / name, timeline)
    for name, timeline in TEST_VIDEOS.items():
        shoot(root / "MLVU_Test" / "video" / name, timeline)
    _write_dev(root / "json")
    _write_test(root)


def _write_dev(folder: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, asked in _DEV.items():
        stem, file = name.split("/")
        kind = "findNeedle" if stem == "2_needle" else stem[2:]
        rows.setdefault(stem, []).extend(
            {**_film(file, DEV_VIDEOS[name]), **_options(*question), "question_type": kind} for question in asked
        )
    for stem, part in rows.items():
        write_json(folder / f"{stem}.json", part)
    write_json(folder / "8_sub_scene.json", [_caption("subPlot_1.mp4", DEV_VIDEOS["8_sub_scene/subPlot_1.mp4"])])
    write_json(folder / "9_summary.json", [_summary("movie101_1.mp4", _MOVIE)])


def _write_test(root: Path) -> None:
    rows = [
        {
            "question_id": id,
            "question_type": kind,
            **_film(file, TEST_VIDEOS[file]),
            **_options(question, candidates, answer),
        }
        for id, kind, file, question, candidates, answer in _TEST
    ]
    answers = root / "test-ground-truth"
    write_json(answers / "test_mcq_gt.json", rows)
    hidden = [{key: value for key, value in row.items() if key != "answer"} for row in rows]
    write_json(root / "test_multi_choice_tasks.json", hidden)
    write_json(answers / "test_ssc_gt.json", [_caption("test_walk.mp4", TEST_VIDEOS["test_walk.mp4"])])
    write_json(answers / "test_vs_gt.json", [_summary("test_film.mp4", _MOVIE)])


def _film(file: str, timeline: list[Scene]) -> dict[str, Any]:
    return {"video": file, "duration": length_s(timeline)}


def _options(question: str, candidates: str, answer: str) -> dict[str, Any]:
    return {"question": question, "candidates": candidates.split("|"), "answer": answer}


def _caption(file: str, timeline: list[Scene]) -> dict[str, Any]:
    question, answer, points = _CAPTION
    said = {"question": question, "answer": answer, "question_type": "subPlot", "scoring_points": points}
    return {**_film(file, timeline), **said}


def _summary(file: str, timeline: list[Scene]) -> dict[str, Any]:
    question, answer = _SUMMARY
    return {**_film(file, timeline), "question": question, "answer": answer, "question_type": "summary"}
