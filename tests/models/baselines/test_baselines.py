"""What answers without looking: the replies, the runs, and the sweep that puts them beside a model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import CONFIGS, job
from evalkit.cli.compose import cells, compose, hydra_settings
from evalkit.errors import ConfigError
from evalkit.models.baselines import Blind, Constant, OneFrameInstead, Random
from evalkit.models.baselines.blind import BlackFrames
from evalkit.models.openai import OpenAI
from evalkit.models.openai.settings import FrameSettings
from evalkit.runs.lines import read_lines
from evalkit.scoring.grade import Choice, Judged, Span, answer_kind
from evalkit.scoring.spans import SPAN_PARSERS
from evalkit.testing import Constant as Scripted
from evalkit.types import Decoding, Prompt, Question
from tests.helpers import CONF, run_here, stable, toy_arguments
from tests.models.openai.frames_in_memory import Frames, context
from tests.toy import write_toy


def replies(settings: Constant | Random, *prompts: Prompt) -> list[str]:
    return [getattr(r, "text", "") for r in settings.build().answer(context(30), prompts, Decoding()).replies]


CHOICE = Prompt("?", question_id="c", options=("x", "y", "z"), answer="choice")
SPAN = Prompt("?", question_id="s", answer="span")


def test_the_constant_reply_fits_the_question() -> None:
    whole = "The event happens in 0.0 - 30.0 seconds, from 0.0 to 30.0."
    assert replies(Constant(choice="B", text="no"), CHOICE, SPAN, Prompt("?")) == ["B", whole, "no"]


def test_random_replies_follow_from_seed_and_question_alone() -> None:
    prompts = [Prompt("?", question_id=str(i), options=("w", "x", "y", "z"), answer="choice") for i in range(2000)]
    first = replies(Random(seed=1), *prompts)
    assert replies(Random(seed=1), *reversed(prompts)) == first[::-1]
    assert replies(Random(seed=2), *prompts) != first
    counts = Counter(first)
    assert counts.keys() == set("ABCD")
    assert max(abs(count - 500) for count in counts.values()) < 5 * (2000 * 0.25 * 0.75) ** 0.5
    single = [Prompt("?", question_id=str(i), options=("x",), answer="choice") for i in range(5)]
    assert set(replies(Random(), *single)) == {"A"}


def test_a_prompt_says_what_an_answer_is() -> None:
    open_question = Question("q", "?")
    assert answer_kind(Span("lmms_eval"), open_question) == "span"
    assert answer_kind(Choice("lmms_eval"), open_question) == "choice"
    assert answer_kind(Judged(lambda question, reply: [], lambda text: None, ("total",)), open_question) == "text"


@pytest.mark.parametrize("parser", SPAN_PARSERS)
def test_every_published_parser_reads_a_random_span(parser: str) -> None:
    for i in range(20):
        (reply,) = replies(Random(), Prompt("?", question_id=str(i), answer="span"))
        span, rule = SPAN_PARSERS[parser].parse(reply)
        assert span is not None and 0 <= span[0] <= span[1] <= 30, (reply, rule)
        assert f"{span[0]:.1f} - {span[1]:.1f}" in reply


def test_black_frames_have_plan_and_size_of_the_models() -> None:
    frames = Frames(10, size=(8, 12))
    black = BlackFrames(frames)
    batches = list(black.batches(4))
    assert [batch.shape for batch in batches] == [(4, 8, 12, 3), (4, 8, 12, 3), (2, 8, 12, 3)]
    assert not np.concatenate(batches).any() and batches[0].dtype == np.uint8
    assert black.plan == frames.plan


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), videos=2, questions=2)


def toy(data: Path, results: Path, *more: str) -> list[str]:
    return toy_arguments(data, results, "task.allow_missing=true", "min_coverage=0", *more)


def test_a_blind_run_sees_black_and_stands_beside_the_models_own(data: Path, tmp_path: Path) -> None:
    words = toy(data, tmp_path, "model.reply=brightness")
    assert run_here(words) == 0
    assert run_here([*words, "baseline=blind"]) == 0
    seen, blind = (only(tmp_path / "toy" / name) for name in ("constant", "constant-blind"))
    assert all(float(r["reply"]) > 10 for r in seen) and {r["reply"] for r in blind} == {"0.000"}
    assert [r["prompt"] for r in blind] == [r["prompt"] for r in seen]
    (folder,) = (tmp_path / "toy" / "constant-blind").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert "A baseline that does not look: all frames are black." in summary["remarks"]
    manifest = json.loads((folder / "manifest.json").read_text())
    (own,) = (tmp_path / "toy" / "constant").iterdir()
    assert manifest["identity"]["model"]["inner"]["reply"] == "brightness"
    assert manifest["code"] != json.loads((own / "manifest.json").read_text())["code"]


def only(model: Path) -> list[dict[str, Any]]:
    (records,) = model.glob("*/records.jsonl")
    return stable(records)


def test_the_random_model_on_a_benchmark(data: Path, tmp_path: Path) -> None:
    words = ["model=random" if word == "model=scripted" else word for word in toy(data, tmp_path)]
    assert run_here(words) == 0
    (records,) = tmp_path.glob("toy/random/*/records.jsonl")
    found = read_lines(records)[0]
    assert {r.status for r in found} == {"ok"} and all(r.reply in tuple("ABCD") for r in found)


def planned(words: list[str]) -> list[job.Plan]:
    dirs = [CONFIGS, CONF]
    return [job.plan(compose(cell, dirs)) for cell in cells(words, hydra_settings(words, dirs))]


def test_the_sweep_puts_the_baselines_beside_the_model() -> None:
    words = ["task=toy", "plugins=[tests]", "model=openai", "model.base_url=http://localhost:1/v1", "model.model=m"]
    plans = planned([*words, "sweep=baselines"])
    assert [plan.model_id for plan in plans] == ["m", "constant", "random", "m-blind", "m"]
    assert [getattr(plan.model, "frames", None) and plan.model.frames_wanted().max_frames for plan in plans] == [
        *(64, None, None, None, 1)
    ]
    one = job.plan(compose([*words, "model.frames.max=1"], [CONFIGS, CONF]))
    assert one.identity() == plans[-1].identity()
    assert len({str(plan.folder) for plan in plans}) == 5


def test_a_model_without_that_setting_has_no_baseline_of_one_frame() -> None:
    with pytest.raises(ConfigError, match=r"baseline=one_frame: constant has no setting model\.frames\.max"):
        OneFrameInstead().settings(Scripted())
    model = OpenAI(base_url="http://localhost:1/v1", model="m", frames=FrameSettings(max=9))
    assert OneFrameInstead().settings(model).frames_wanted().max_frames == 1
    assert model.frames.max == 9
    assert Blind(inner=model).frames_wanted().max_frames == 9
