"""A miniature of VNBench in the official layout: two haystacks, each with all nine kinds of needles, four tries each.

Needles are short flashes over the haystack's own film. As in the real data, the four tries reshuffle one set of options
with the right one at three or four different letters, counting options are numbers, and the files of ret_insert1 and
ret_insert2 are named the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.video.scenes import Scene

from .filming import cut, length_s, shoot, write_json

HAYSTACKS: dict[str, list[Scene]] = {
    "hay_1": cut((8, "gray", "", "white"), (8, "brown", "", "black")),
    "v_hay2": cut((6, "cyan", "", "white"), (6, "gray", "", "black"), (6, "cyan", "", "white")),
}
_AT_S = (2, 5, 9, 12)  # where needles begin; each lasts a second
_SWAPPED = {"ret_insert1": "ret_insert2", "ret_insert2": "ret_insert1"}

# Haystack -> type -> the needles in order, as (colour, text), and the options with the right one first.
_Needles = Sequence[tuple[str, str]]
_ASKED: dict[str, tuple[str, tuple[tuple[_Needles, list[Any]], tuple[_Needles, list[Any]]]]] = {
    "ret_edit1": (
        "What is the secret word shown in the video?",
        (
            ([("black", "LAMP")], ["Lamp", "Tree", "Boat", "Ring"]),
            ([("white", "TREE")], ["Tree", "Lamp", "Ring", "Boat"]),
        ),
    ),
    "ret_insert1": (
        "Which colour fills the inserted picture?",
        (
            ([("purple", "")], ["Purple", "Red", "Green", "Yellow"]),
            ([("red", "")], ["Red", "Purple", "Yellow", "Green"]),
        ),
    ),
    "ret_insert2": (
        "Which fruit is named in the video?",
        (
            ([("yellow", "PEAR")], ["Pear", "Kiwi", "Plum", "Apple"]),
            ([("green", "KIWI")], ["Kiwi", "Pear", "Apple", "Plum"]),
        ),
    ),
    "ord_edit1": (
        "What is the order of words shown in the video?",
        (
            (
                [("black", "SUN"), ("black", "CAT"), ("black", "KEY"), ("black", "HAT")],
                ["sun, cat, key, hat", "cat, sun, key, hat", "hat, key, cat, sun", "key, sun, hat, cat"],
            ),
            (
                [("white", "DOG"), ("white", "CUP"), ("white", "SEA"), ("white", "MAP")],
                ["dog, cup, sea, map", "cup, dog, map, sea", "map, sea, cup, dog", "sea, dog, map, cup"],
            ),
        ),
    ),
    "ord_insert1": (
        "What is the order of fruits appearing in the video?",
        (
            (
                [("green", "KIWI"), ("red", "APPLE"), ("yellow", "PEAR"), ("purple", "PLUM")],
                [
                    "kiwi, apple, pear, plum",
                    "apple, kiwi, pear, plum",
                    "plum, pear, kiwi, apple",
                    "pear, apple, kiwi, plum",
                ],
            ),
            (
                [("purple", "PLUM"), ("green", "KIWI"), ("red", "APPLE"), ("yellow", "PEAR")],
                [
                    "plum, kiwi, apple, pear",
                    "kiwi, plum, pear, apple",
                    "pear, apple, plum, kiwi",
                    "apple, pear, kiwi, plum",
                ],
            ),
        ),
    ),
    "ord_insert2": (
        "What is the order of colours flashing in the video?",
        (
            (
                [("red", ""), ("blue", ""), ("yellow", ""), ("pink", "")],
                [
                    "red, blue, yellow, pink",
                    "blue, red, yellow, pink",
                    "pink, yellow, red, blue",
                    "yellow, red, pink, blue",
                ],
            ),
            (
                [("orange", ""), ("green", ""), ("blue", ""), ("red", "")],
                [
                    "orange, green, blue, red",
                    "green, orange, red, blue",
                    "red, blue, orange, green",
                    "blue, red, green, orange",
                ],
            ),
        ),
    ),
    "cnt_edit1": (
        "How many words are shown in the video?",
        (
            ([("black", "SUN"), ("black", "CAT"), ("black", "KEY")], [3, 2, 4, 5]),
            ([("white", "DOG"), ("white", "CUP")], [2, 4, 1, 3]),
        ),
    ),
    "cnt_edit2": (
        "How many times does a letter A appear in the video?",
        (
            ([("black", "A A"), ("black", "A"), ("black", "A")], [4, 3, 5, 2]),
            ([("white", "A"), ("white", "A A A"), ("white", "A"), ("white", "A")], [6, 4, 5, 7]),
        ),
    ),
    "cnt_insert1": (
        "How many times does the picture turn red?",
        (
            ([("red", ""), ("red", ""), ("red", ""), ("red", "")], [4, 2, 3, 1]),
            ([("red", ""), ("red", "")], [2, 4, 3, 1]),
        ),
    ),
}
# Which option stands at A, B, C, D in each of the four tries; the right one is number 0.
_ORDERS = (
    ((1, 0, 2, 3), (3, 2, 1, 0), (0, 3, 1, 2), (2, 1, 0, 3)),  # at B, D, A, C
    ((2, 0, 3, 1), (1, 2, 0, 3), (3, 0, 1, 2), (0, 1, 3, 2)),  # at B, C, B, A
)


def write(root: Path) -> None:
    """VNBench-main-4try.json and VNBench_new/<haystack>_<type>.mp4."""
    rows: list[dict[str, Any]] = []
    for kind, (question, variants) in _ASKED.items():
        for number, (haystack, (needles, options)) in enumerate(zip(HAYSTACKS, variants, strict=True)):
            file = f"{haystack}_{_SWAPPED.get(kind, kind)}.mp4"
            background = HAYSTACKS[haystack]
            flashes = [Scene(at, at + 1, *needle) for at, needle in zip(_AT_S, needles, strict=False)]
            shoot(root / "VNBench_new" / file, [*background, *flashes], size=(64, 96))
            for attempt, order in enumerate(_ORDERS[number]):
                rows.append(
                    {
                        "video": f"./VNBench/{file}",
                        "question": question,
                        "options": [options[i] for i in order],
                        "gt": options[0],
                        "gt_option": order.index(0),
                        "needle_time": [int(scene.start_s) for scene in flashes],
                        "length": int(length_s(background)),
                        "type": kind,
                        "try": attempt,
                    }
                )
    write_json(root / "VNBench-main-4try.json", rows)
