"""A device that runs out of memory in a whole run: the same answers from smaller pieces, or a marked question; never
fewer frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.models.shared.attention import SdpaCpu
from evalkit.models.videoxl2.adapter import VideoXL2Model
from tests.helpers import CONF, only_run
from tests.toy import write_toy

ERRORS: list[Callable[[], RuntimeError]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError("MPS backend out of memory (MPS allocated: 17.72 GB)"),
]


class Small(SdpaCpu):
    """Attention on a device with room for so many rows at once; `video`: while a video is prefilled."""

    def __init__(self, question: int, video: int, error: Callable[[], RuntimeError]) -> None:
        self.limits, self.error, self.failures, self.answering = {True: question, False: video}, error, 0, False

    def __call__(self, q: Any, k: Any, v: Any, causal: bool = False) -> Any:
        if q.shape[1] > self.limits[self.answering]:
            self.failures += 1
            raise self.error()
        return super().__call__(q, k, v, causal)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), videos=2, questions=3)


def run(
    data: Path, results: Path, monkeypatch: pytest.MonkeyPatch, small: Small | None
) -> tuple[int, list[dict[str, Any]]]:
    words = [
        "task=toy", "model=videoxl2_mini", "source=local", f"source.root={data}", f"results={results}", "tracker=csv",
        "plugins=[tests]", "task.allow_missing=true", "model.frames.max=24", "model.frames.fps=8", "min_coverage=0.0",
        "decoding.max_new_tokens=4", "model.device=cpu",
    ]  # fmt: skip
    plan = job.plan(compose(words, [CONFIGS, CONF]))
    with monkeypatch.context() as patch:
        if small is not None:
            built = VideoXL2Model.__init__
            answer = VideoXL2Model.answer_one

            def build(self: VideoXL2Model, *args: Any) -> None:
                built(self, *args)
                self.attention = small

            def answered(self: VideoXL2Model, *args: Any) -> Any:
                small.answering = True
                try:
                    return answer(self, *args)
                finally:
                    small.answering = False

            patch.setattr(VideoXL2Model, "__init__", build)
            patch.setattr(VideoXL2Model, "answer_one", answered)
        code = job.run(plan)
    records, prefills = (read_lines(only_run(results) / f"{name}.jsonl") for name in ("records", "prefills"))
    of_id = {prefill.pop("id"): prefill for prefill in prefills}
    return code, [{**of_id.get(record.pop("prefill", None), {}), **record} for record in records]


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def roomy(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    code, rows = run(data, tmp_path_factory.mktemp("roomy"), pytest.MonkeyPatch(), None)
    assert code == 0 and all(row["status"] == "ok" for row in rows)
    return rows


SAME = ("question", "status", "reply", "frames", "plan", "tokens", "kv_bytes", "finish", "prompt_sha256", "flops")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("question", "video"), [(12, 100_000), (100_000, 200), (1, 200)])
def test_the_same_answers_come_from_smaller_pieces(
    data: Path,
    roomy: list[dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    question: int,
    video: int,
    error: Any,
) -> None:
    small = Small(question, video, error)
    code, rows = run(data, tmp_path, monkeypatch, small)
    assert code == 0
    assert [[row[name] for name in SAME] for row in rows] == [[row[name] for name in SAME] for row in roomy]
    assert 1 <= small.failures <= 12  # what was learnt is kept: not once for each question


def test_a_question_that_fits_in_no_way_is_marked_and_the_video_is_not_made_smaller(
    data: Path, roomy: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, rows = run(data, tmp_path, monkeypatch, Small(0, 100_000, ERRORS[0]))
    assert code == 0  # min_coverage=0
    assert [row["question"] for row in rows] == [row["question"] for row in roomy]
    for row in rows:
        assert (row["status"], row.get("reply"), row.get("score")) == ("failed", None, None)
        assert row["error"]["kind"] == "out_of_memory" and "while answering behind" in row["error"]["message"]


def test_a_video_that_fits_in_no_way_costs_its_own_questions(
    data: Path, roomy: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first video's prefill fails for ever; there is room again for the second."""
    small = Small(100_000, 0, ERRORS[0])
    prefill, seen = VideoXL2Model.prefill, []

    def counted(self: VideoXL2Model, context: Any) -> Any:
        seen.append(context.video.id)
        small.limits[False] = 0 if len(seen) == 1 else 100_000
        return prefill(self, context)

    monkeypatch.setattr(VideoXL2Model, "prefill", counted)
    _, rows = run(data, tmp_path, monkeypatch, small)
    assert [row["status"] for row in rows] == ["failed"] * 3 + ["ok"] * 3
    assert {row["error"]["kind"] for row in rows[:3]} == {"out_of_memory"}
    assert [[row[name] for name in SAME] for row in rows[3:]] == [[row[name] for name in SAME] for row in roomy[3:]]
