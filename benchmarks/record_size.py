"""How large the files of a run are, with the frames and costs of a prefill in a line of their own.

    PYTHONPATH=. python benchmarks/record_size.py [--frames 2048] [--questions 15]

A real run of one video; beside it the size of its records as format 1 (evalkit 0.1) wrote them, each with the frames
and costs of its prefill.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from evalkit.runs import read_run
from evalkit.types import Prefill
from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video
from tests.helpers import only_run, run_here, toy_arguments
from tests.toy import write_toy


def format_1(line: str, prefill: Prefill) -> str:
    """The record with what its prefill holds."""
    sampling = {**prefill.plan, "decoder": prefill.decoder, "file": prefill.file}
    return json.dumps({**json.loads(line), "sampling": sampling}, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--questions", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_toy(Path(folder) / "data", videos=1, questions=options.questions)
        scenes = [Scene(0, options.frames / 8 + 1, "red")]
        write_video(data / "videos" / "v0.mp4", film(scenes, fps=8, size=(48, 64)), fps=8)
        results = Path(folder) / "results"
        words = ["task.allow_missing=true", "min_coverage=0", f"model.frames={options.frames}"]
        assert run_here(toy_arguments(data, results, *words)) == 0
        run = only_run(results)
        records, prefills = (run / name for name in ("records.jsonl", "prefills.jsonl"))
        (prefill,) = read_run(run).passes
        lines = records.read_text(encoding="utf-8").splitlines()
        before = sum(len(format_1(line, prefill).encode()) for line in lines)
        print(f"{len(prefill.plan['indices'])} frames, {len(lines)} questions")
        print(f"  records.jsonl                 {records.stat().st_size / 1024:8.1f} KiB")
        print(f"  prefills.jsonl                {prefills.stat().st_size / 1024:8.1f} KiB")
        print(f"  records.jsonl of format 1     {before / 1024:8.1f} KiB, {before / records.stat().st_size:.0f} times")


if __name__ == "__main__":
    main()
