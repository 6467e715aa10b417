"""A miniature of MVBench in the layout of its main branch: twenty tasks of four questions about parts of videos.

Four scenes a video, each with a word. Rows with `start` and `end` ask what is shown in their part alone, so that
reading the whole video does not tell; the TVQA video is a folder of pictures; one row has a single candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from evalkit.video.scenes import Scene, film

from .filming import cut, shoot, write_json

SCENE_S = 3.0
FRAMES_A_SECOND = 3
COLOURS = ("red", "green", "blue", "yellow", "cyan", "orange", "purple", "pink", "brown", "white", "gray", "black")
WORDS = ("CAT", "DOG", "SUN", "SEA", "KEY", "CUP", "HAT", "BUS", "MAP", "PEN", "JAM", "OWL")
CUT = ("action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning")
"""The tasks whose rows have `start` and `end`."""


def scenes(number: int) -> list[tuple[str, str]]:
    """(colour, word) of the four scenes of a video."""
    return [(COLOURS[(number + 5 * i) % 12], WORDS[(2 * number + i) % 12]) for i in range(4)]


def write(root: Path, places: Mapping[str, str]) -> None:
    """json/<task>.json and video/<folder>/<file>; `places`: the folder of each task."""
    folders = sorted(set(places.values()))
    for number, folder in enumerate(folders):
        timeline = cut(*((SCENE_S, colour, word) for colour, word in scenes(number)))
        if "frames" in folder:
            _shoot_pictures(root / "video" / folder / _name(folder), timeline)
        else:
            shoot(root / "video" / folder / _name(folder), timeline)
    for task, folder in places.items():
        write_json(root / "json" / f"{task}.json", _rows(task, folder, folders.index(folder)))


def _name(folder: str) -> str:
    return "friends_s01e01_seg01_clip_00_ep" if "frames" in folder else f"{folder.split('/')[0].lower()}_1.mp4"


def _rows(task: str, folder: str, number: int) -> list[dict[str, Any]]:
    shown = scenes(number)
    words = [word for _, word in shown]
    rows: list[dict[str, Any]] = []
    for i, (colour, word) in enumerate(shown):
        if task in CUT:  # half a scene away from both ends, so that no frame shows the next scene
            question, candidates, answer = "Which word is shown?", words, word
            more = {"start": i * SCENE_S + 0.5, "end": (i + 1) * SCENE_S - 0.5}
        elif i % 2:
            question, answer, more = f"What is the colour of the picture with the word {word}?", colour, {}
            candidates = sorted({colour, *COLOURS[number % 8 : number % 8 + 4]})
        else:
            question, answer, more = f"Which word is shown on the {colour} picture?", word, {}
            candidates = [*words[i:], *words[:i]][: 3 + i % 3]
        rows.append({"video": _name(folder), "question": question, "candidates": candidates, "answer": answer, **more})
        if "frames" in folder:
            rows[-1]["fps"] = FRAMES_A_SECOND
    if task == "counterfactual_inference":
        rows[0]["candidates"] = [rows[0]["answer"]]
    return rows


def _shoot_pictures(folder: Path, timeline: list[Scene]) -> None:
    """00001.jpg ..., as the TVQA frames are called."""
    folder.mkdir(parents=True)
    for number, image in enumerate(film(timeline, FRAMES_A_SECOND, (96, 128)), 1):
        Image.fromarray(image).save(folder / f"{number:05d}.jpg", quality=90)
