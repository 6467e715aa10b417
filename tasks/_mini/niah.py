"""A miniature of V-NIAH in the layout of LongVA's repository: ten minutes of haystack at one frame a second, and five
needles whose words and colours the haystack does not have; letters, a word and a number as answers, as the original."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from evalkit.video.scenes import Scene, picture

from .filming import shoot, write_json

SECONDS = 600
GRID = {"frames": [4, 8, 16, 32], "depths": [0.0, 0.5, 1.0]}
_HAY = ("gray", "blue", "brown", "black", "green", "white")
_HAY_WORDS = ("", "ROAD", "RAIN", "", "TREE", "TOWN", "")
_LETTER = "Answer with the option's letter from the given choices directly."
_WORD = "Answer the question using a single word or phrase."

NEEDLES = [
    ("cat.png", "pink", "CAT", f"the cat. What is its colour?\nA. Red\nB. Pink\nC. Blue\nD. Gray\n{_LETTER}", "B"),
    ("sun.png", "yellow", "SUN", f"the sun. What is its colour?\n{_WORD}", "Yellow"),
    ("pills.png", "cyan", "200", f"with a number. Which number is it?\n{_WORD}", "200"),
    ("owl.png", "purple", "OWL", f"that is purple. It shows a...\nA. Road\nB. Tree\nC. Owl\nD. Town\n{_LETTER}", "C"),
    (
        "key.png",
        "orange",
        "KEY",
        f"that is orange. It shows...\nA. A key\nB. Rain\nC. A tree\nD. A cat\n{_LETTER}",
        "A",
    ),
]
"""(file, colour, word, question behind "Find the frame", answer)"""


def write(root: Path) -> None:
    """data/haystack_videos/movie.mp4, needle_datasets/{dataset.json,images/} and grid.json."""
    hay = [Scene(5 * i, 5 * i + 5, _HAY[i * 5 % 6 if i % 2 else i % 6], _HAY_WORDS[i % 7]) for i in range(SECONDS // 5)]
    shoot(root / "data" / "haystack_videos" / "movie.mp4", hay, fps=1)
    images = root / "needle_datasets" / "images"
    images.mkdir(parents=True)
    for file, colour, word, _, _ in NEEDLES:
        Image.fromarray(picture(colour, word, (120, 160))).save(images / file)
    rows = [
        {"path": file, "prompt": f"\nFind the frame {'of ' * question.startswith('the')}{question}", "answer": answer}
        for file, _, _, question, answer in NEEDLES
    ]
    write_json(root / "needle_datasets" / "dataset.json", rows)
    write_json(root / "grid.json", [GRID])
