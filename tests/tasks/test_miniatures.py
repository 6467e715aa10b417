"""Miniatures as `source=mini` makes them: written once, small, in a moment, and again whenever their code changes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from evalkit.sources import Mini
from evalkit.task import Task
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.mlvu import MLVU
from evalkit.tasks.videomme import VideoMME


@pytest.mark.parametrize("kind", [MLVU, VideoMME, LVBench])
def test_written_once_in_a_moment(tmp_path: Path, kind: type[Task]) -> None:
    task = kind()
    started = time.process_time()
    data = Mini(str(tmp_path)).open(task)
    assert time.process_time() - started < 5
    assert sum(path.stat().st_size for path in data.root.rglob("*") if path.is_file()) < 2**20
    (data.root / "kept").touch()
    again = Mini(str(tmp_path)).open(kind())
    assert again == data
    assert (again.root / "kept").exists()
    assert all(item.video.path.is_file() for item in task.read(data))


TASK = """
from dataclasses import dataclass
from evalkit.task import Split, Task

@dataclass
class Toy(Task):
    split: str = "all"
    name = "toy"
    benchmark = "Toy"
    splits = {"all": Split()}
    protocols = {"official": None}

    def load(self, root):
        return []

    def make_miniature(self, root):
        (root / "made").touch()
"""


def test_a_change_of_the_filming_code_makes_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "toybench"
    (package / "_mini").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "toy.py").write_text(TASK)
    (package / "_mini" / "toy.py").write_text("COLOUR = 'red'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from toybench.toy import Toy  # type: ignore[import-not-found]

    try:
        roots = []
        for text in ("COLOUR = 'red'\n", "COLOUR = 'blue'\n", "COLOUR = 'red'\n"):
            (package / "_mini" / "toy.py").write_text(text)
            task = Toy()
            root = Mini(str(tmp_path / "cache")).open(task).root
            assert (root / "made").exists()
            roots.append(root)
        assert roots[0] == roots[2] != roots[1]
    finally:
        for name in [name for name in sys.modules if name.startswith("toybench")]:
            del sys.modules[name]
