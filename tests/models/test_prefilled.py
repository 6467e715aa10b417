"""Prefilled videos on disk: another bi-level setting answers from them as from its own prefill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import ConfigError
from evalkit.models.videoxl2.settings import (
    BilevelDecode,
    BudgetSettings,
    KVStoreSettings,
    RelevanceSettings,
    SparsePrefill,
    VideoXL2,
)
from evalkit.types import Context, Cue, Prompt
from tests.helpers import run_command

from .test_adapter import DECODING, QUESTIONS, VIDEO, Frames, model


def bilevel(compression: int, method: str = "attention") -> BilevelDecode:
    return BilevelDecode(True, compression, 2, BudgetSettings(chunks=1), RelevanceSettings(method))


def ask(frames: Frames, folder: Path | None, compression: int = 4, cue: str = "", **settings: Any) -> list[str]:
    kept = KVStoreSettings(folder=str(folder) if folder else None)
    made = model(stop=False, bilevel_decode=bilevel(compression), kv_store=kept, **settings)
    cues = (Cue(5, cue),) if cue else ()
    cache = made.prefill(Context(VIDEO, frames, cues=cues))
    assert cache.cost.kv_bytes > 0 and cache.cost.frames == len(frames.plan)
    return [made.generate(cache, Prompt(text), DECODING).text for text in QUESTIONS]


@pytest.mark.parametrize("cue", ["", "someone sings"])
def test_a_sweep_over_compression_prefills_once(tmp_path: Path, cue: str) -> None:
    own = {compression: ask(Frames(44), None, compression, cue) for compression in (1, 4, 16)}
    assert len(set(map(tuple, own.values()))) > 1
    for number, (compression, answers) in enumerate(own.items()):
        frames = Frames(44)
        assert ask(frames, tmp_path, compression, cue) == answers
        assert frames.taken == (0 if number else 44)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_changes_a_prefill_is_prefilled_anew(tmp_path: Path) -> None:
    ask(Frames(44), tmp_path)
    for frames, settings in [
        (Frames(40), {}),
        (Frames(44), {"sparse_prefill": SparsePrefill(True, 2, 1)}),
        (Frames(44), {"attention": "eager"}),
        (Frames(44), {"cue": "a line"}),
    ]:
        ask(frames, tmp_path, **settings)
        assert frames.taken == len(frames.plan)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    answers = ask(Frames(44), tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damage in (b"", whole[: len(whole) // 2], b"x" * 100):
        file.write_bytes(damage)
        frames = Frames(44)
        assert ask(frames, tmp_path) == answers
        assert frames.taken == 44
        assert len(file.read_bytes()) > len(whole) // 2


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    from evalkit.models.shared.prefilled import Prefilled

    for number in range(4):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(b"x" * 100)
        os.utime(file, (number, number))
    Prefilled(tmp_path, 250)._evict(tmp_path / "0.safetensors")
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["0", "2", "3"]


def test_a_folder_that_cannot_be_written_costs_no_answer_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert ask(Frames(44), tmp_path / "file") == ask(Frames(44), None)
    made = model(bilevel_decode=bilevel(4), kv_store=KVStoreSettings(folder=str(tmp_path / "file")))
    reply = made.generate(made.prefill(Context(VIDEO, Frames(8))), Prompt("?"), DECODING)
    assert any("cannot be written" in remark for remark in reply.remarks)


@pytest.mark.parametrize(
    "settings",
    [
        {"kv_store": KVStoreSettings(folder="x")},
        {"kv_store": KVStoreSettings(folder="x"), "bilevel_decode": bilevel(4, "siglip")},
    ],
)
def test_where_it_would_do_nothing_or_harm_it_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"kv_store\.folder"):
        VideoXL2(**settings)


def test_a_sweep_as_typed(tmp_path: Path) -> None:
    named = ["task=mlvu", "model=videoxl2_mini", "source=mini", "tracker=csv", "limit=2", "model.frames.max=24"]
    kept = [f"model.kv_store.folder={tmp_path / 'kv'}", "model.bilevel_decode.chunk_groups=1"]
    done = run_command("-m", *named, *kept, "model.bilevel_decode.compression=2,8", f"results={tmp_path / 'r'}")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(p.read_text().splitlines()[0]) for p in (tmp_path / "r").glob("*/*/*/prefills.jsonl")]
    assert len(rows) == 2
    assert rows[0]["seconds"]["vision"] == rows[1]["seconds"]["vision"] > 0  # one prefill, whose cost both show
    assert len(list((tmp_path / "kv").iterdir())) == 1
