"""The Python API, as a notebook uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import compare, evaluate, load_runs, rescore
from evalkit.errors import ConfigError, RunError
from evalkit.model import PrefillModel, VideoCache
from evalkit.sources import Local
from evalkit.testing import Constant
from evalkit.types import Context, Decoding, FrameRequest, PrefillCost, Prompt, Reply
from evalkit.video.resize import FixedSize
from tests.toy import Toy, write_toy


class Letter(PrefillModel[VideoCache]):
    """A model that is given already loaded. It always replies with the same letter."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def prefill(self, context: Context) -> VideoCache:
        frames = sum(len(batch) for batch in context.frames.batches(4))
        return VideoCache(PrefillCost(frames=frames, prefill_s=0.5))

    def generate(self, cache: VideoCache, prompt: Prompt, decoding: Decoding) -> Reply:
        return Reply(self.letter, new_tokens=1)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs: a settings object at two frame counts and with another reply, and a loaded model."""
    root = tmp_path_factory.mktemp("api")
    source = Local(str(write_toy(root / "data")))
    for frames, reply in ((2, "A"), (4, "A"), (4, "B")):
        evaluate(Toy(), Constant(reply=reply, frames=frames), source=source, results=root / "results")
    frames = FrameRequest("uniform", 4, resize=FixedSize(16, 16))
    run = evaluate(Toy(), Letter("C"), frames=frames, name="letter", source=source, results=root / "results")
    assert run.path.parent.name == "letter" and len(run.records) == 12
    return root / "results"


def test_scores_have_a_column_for_what_varies(results: Path) -> None:
    runs = load_runs(results)
    assert len(runs) == 4
    scores = runs.scores
    constant = scores[scores.headline & (scores.model == "constant")]
    assert sorted(zip(constant.frames, constant.reply, constant.value.round(2), strict=True)) == [
        (2.0, "A", 25.0), (4.0, "A", 25.0), (4.0, "B", 25.0),
    ]  # fmt: skip
    assert set(scores.benchmark) == {"Toy Videos"} and (scores.coverage == 1).all()
    assert (scores.low <= scores.value).all() and (scores.value <= scores.high).all()
    assert set(scores[scores.group == "kind"].label) == {"first", "later"}


def test_records_and_prefills_join_by_key_and_id(results: Path) -> None:
    runs = load_runs(results)
    assert len(runs.records) == 48 and len(runs.prefills) == 16
    joined = runs.records.merge(
        runs.prefills[["key", "id", "frames", "seconds.prefill"]],
        left_on=["key", "prefill"], right_on=["key", "id"], suffixes=("", "_seen"),
    )  # fmt: skip
    assert len(joined) == 48
    letter = joined[joined.model == "letter"]
    assert set(letter["seconds.prefill"]) == {0.5} and set(letter["reply"]) == {"C"}
    assert set(joined["group.kind"]) == {"first", "later"}


def test_what_was_not_measured_is_nan_and_not_0(results: Path) -> None:
    efficiency = load_runs(results).efficiency.set_index("model")
    assert efficiency.loc["letter", "prefill_s"] == 2.0 and efficiency.loc["letter", "prefills"] == 4
    assert efficiency.loc["letter", ["vision_s", "kv_bytes_used", "prompt_tokens", "flops"]].isna().all()


def test_a_verdict_on_two_runs(results: Path) -> None:
    runs = load_runs(results)
    found = compare(*runs.paths[:2], plugins=["tests"])
    assert len(found.pairs) == 1 and found.verdict


def test_rescoring_returns_the_new_run(results: Path, tmp_path: Path) -> None:
    (run,) = (run for run in load_runs(results).stored if run.path.parent.name == "letter")
    new = rescore(run.path, tmp_path, plugins=["tests"], **{"task.protocol": "strict"})
    assert new.path.is_relative_to(tmp_path) and new.summary and new.summary["protocol"] == "strict"
    assert [r.reply for r in new.records] == [r.reply for r in run.records]
    assert len(new.passes) == len(run.passes)


def test_the_same_call_continues(results: Path) -> None:
    before = sorted(results.glob("*/*/*/records.jsonl"))
    source = Local(str(results.parent / "data"))
    evaluate(Toy(), Constant(reply="A", frames=2), source=source, results=results)
    assert sorted(results.glob("*/*/*/records.jsonl")) == before


def test_a_task_by_its_name_on_its_miniature(tmp_path: Path) -> None:
    run = evaluate("vnbench", Constant(frames=2), source="mini", results=tmp_path, limit=4)
    assert run.source == "mini" and run.limit == 4 and len(run.records) == 4


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        load_runs(tmp_path)
    with pytest.raises(ConfigError, match=r"needs frames=FrameRequest"):
        evaluate(Toy(), Letter("A"), results=tmp_path)
    with pytest.raises(ConfigError, match="there is no option limits"):
        evaluate(Toy(), Constant(), results=tmp_path, limits=3)
    with pytest.raises(ConfigError, match="belong to a loaded model"):
        evaluate(Toy(), Constant(), results=tmp_path, name="x")
