"""Prefilled videos on disk: another bi-level setting answers from them as from its own prefill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
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


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.prefill"))


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
    assert len(entries(tmp_path)) == 1


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
    assert len(entries(tmp_path)) == 5


def prefilled(frames: Frames, folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """The answers, and what the first of them remarks."""
    made = model(stop=False, bilevel_decode=bilevel(4), kv_store=KVStoreSettings(folder=str(folder)))
    cache = made.prefill(Context(VIDEO, frames))
    replies = [made.generate(cache, Prompt(text), DECODING) for text in QUESTIONS]
    return [reply.text for reply in replies], replies[0].remarks


def test_a_damaged_entry_is_made_anew_and_remarked(tmp_path: Path) -> None:
    answers, notes = prefilled(Frames(44), tmp_path)
    assert not any("stored prefill" in note for note in notes)
    (file,) = entries(tmp_path)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    for at in np.random.default_rng(3).integers(0, len(whole), 20):
        flipped[at] ^= 1 << int(at) % 8
    for damage in (b"", whole[: len(whole) // 2], b"x" * 100, bytes(flipped), whole + b"x"):
        file.write_bytes(damage)
        frames = Frames(44)
        again, notes = prefilled(frames, tmp_path)
        assert again == answers and frames.taken == 44
        assert "the stored prefill of this video was damaged; the video was prefilled anew" in notes
        assert file.read_bytes()[60:200] == whole[60:200]
    frames = Frames(44)
    assert prefilled(frames, tmp_path)[0] == answers and frames.taken == 0


def test_entries_swapped_between_two_keys_are_made_anew(tmp_path: Path) -> None:
    answers = [prefilled(Frames(n), tmp_path)[0] for n in (40, 44)]
    one, two = entries(tmp_path)
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    for n, expected in zip((40, 44), answers, strict=True):
        frames = Frames(n)
        assert prefilled(frames, tmp_path)[0] == expected and frames.taken == n


def test_a_folder_that_cannot_be_written_costs_no_answer_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert ask(Frames(44), tmp_path / "file") == ask(Frames(44), None)
    made = model(bilevel_decode=bilevel(4), kv_store=KVStoreSettings(folder=str(tmp_path / "file")))
    reply = made.generate(made.prefill(Context(VIDEO, Frames(8))), Prompt("?"), DECODING)
    assert any("cannot be written" in note for note in reply.remarks)


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
    assert len(entries(tmp_path / "kv")) == 1
