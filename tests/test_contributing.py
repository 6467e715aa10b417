"""The examples of CONTRIBUTING.md run unchanged, as an external package with a benchmark and a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video
from tests.helpers import ROOT, only_run

BLOCK = re.compile(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> dict[str, str]:
    """Path -> text of each example that is a whole file."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(BLOCK.findall(text))


def write_external_package(folder: Path) -> None:
    """Write `mypackage` and its configs from the examples; the placeholders of the model get values."""
    given = examples()
    files = {
        "mypackage/mybench.py": given["tasks/mybench.py"],
        "mypackage/mymodel.py": given["models/mymodel.py"].replace("text=...,", 'text="B",').replace("=...", "=1"),
        "mypackage/__init__.py": "from .mybench import MyBench\nfrom .mymodel import MyModel\n",
        "conf/task/mybench.yaml": given["configs/task/mybench.yaml"].replace("evalkit.tasks.mybench", "mypackage"),
        "conf/model/mymodel.yaml": given["configs/model/mymodel.yaml"].replace("evalkit.models.mymodel", "mypackage"),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def data(folder: Path) -> Path:
    (folder / "videos").mkdir(parents=True)
    rows = []
    for number, colour in enumerate(("red", "blue")):
        write_video(folder / "videos" / f"{colour}.mp4", film([Scene(0, 3, colour)], fps=8), fps=8)
        for q, answer in enumerate("AB"):
            rows.append(
                {"id": f"{number}-{q}", "question": "Which?", "options": ["one", "two"], "answer": answer,
                 "topic": colour, "video": f"{colour}.mp4", "duration": 3.0}
            )  # fmt: skip
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    write_external_package(folder)
    words = ["--config-dir", "conf", "plugins=[mypackage]", "task=mybench", "model=mymodel", "results=results"]
    command = [sys.executable, "-m", "evalkit", *words, "source=local", f"source.root={data(folder / 'data')}", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_benchmark_and_a_model_of_an_external_package_run(tmp_path: Path) -> None:
    done = run(tmp_path, "task.allow_missing=true", "min_coverage=0")
    assert done.returncode == 0, done.stderr
    made = only_run(tmp_path / "results")
    records = [json.loads(line) for line in (made / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["score"] for record in records] == [0.0, 1.0, 0.0, 1.0]
    assert "by topic" in (made / "scores.csv").read_text(encoding="utf-8")


def test_a_shorter_copy_is_an_error(tmp_path: Path) -> None:
    """As a comment in the example states."""
    done = run(tmp_path)
    assert done.returncode == 1
    assert "4 questions" in done.stderr and "500" in done.stderr
