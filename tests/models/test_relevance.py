"""Relevance: what is dense for a question, and why."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

from evalkit.errors import CheckpointError, ConfigError, DataError, ModelError
from evalkit.models.shared.cost import mixed_rows
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import VISUAL, Chunked, Layout
from evalkit.models.shared.relevance import ChunkBudget, RandomChunks, RelevanceQuery, Scored, UniformChunks
from evalkit.models.shared.relevance_attention import AttentionRelevance, visual_mass
from evalkit.models.shared.relevance_siglip import SiglipRelevance, SiglipTowers
from evalkit.models.videoxl2.selection_file import SelectionFile
from evalkit.types import Prompt, Video

from . import twin
from .twin import Sequence, pair, prefilled, sdpa

VIDEO = Video("v1", Path("/data/some/clip.mp4"))
decoders = cache(pair)


def store_of(layout: Layout) -> KVStore:
    """A store of which only the layout is looked at."""
    store = KVStore(decoders()[0], Layout())
    store.layout = layout
    return store


def asked(layout: Layout, question: str = "What?", ids: Seq[int] = (1,), **prompt: str) -> RelevanceQuery:
    return RelevanceQuery(VIDEO, Prompt(question + "\nA. x", question=question, **prompt), ids, store_of(layout))


def groups(count: int) -> Layout:
    return Layout(3, 0, [2] * count, [8] * count)


@dataclass
class Given(Scored):
    given: Seq[float] = field(default_factory=tuple)

    def scores(self, asked: RelevanceQuery, chunks: Seq[range]) -> Seq[float]:
        return self.given


def test_the_best_chunks_and_both_ends() -> None:
    method = Given(2, 4, ChunkBudget(chunks=2), [9, 1, 5, 3, 5, 9, 0])
    selection = method.select(asked(groups(13)))
    assert selection.dense == (0, 2, 5, 6)  # the ends whatever they score; of equals the earlier comes first
    assert selection.groups(groups(13)) == [0, 1, 4, 5, 10, 11, 12]
    assert Given(2, 4, ChunkBudget(chunks=1), [9, 1, 5, 5, 5, 2, 0]).select(asked(groups(13))).dense == (0, 2, 6)
    assert Given(2, 4, ChunkBudget(chunks=99), method.given).select(asked(groups(13))).dense == tuple(range(7))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_short_videos(count: int) -> None:
    for method in (UniformChunks(2, 4, ChunkBudget(chunks=3)), RandomChunks(2, 4, ChunkBudget(fraction=0.5))):
        dense = method.select(asked(groups(count))).dense
        chunks = -(-count // 2)
        assert dense is not None and set(dense) >= ({0, chunks - 1} if chunks else set())
        assert all(chunk < chunks for chunk in dense)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0.05, 1.0),
    st.integers(0, 9),
)
def test_a_fraction_is_kept_and_used(
    counts: list[tuple[int, int]], chunk_groups: int, compression: int, fraction: float, seed: int
) -> None:
    layout = Layout(3, 2, *map(list, zip(*counts, strict=True)))
    method = RandomChunks(chunk_groups, compression, ChunkBudget(fraction=fraction), seed)
    selection = method.select(asked(layout))
    rows = mixed_rows(layout, compression, selection.groups(layout))
    chunks = layout.chunks(chunk_groups)
    ends = {group for chunk in (chunks[0], chunks[-1]) for group in chunk}
    if rows > fraction * layout.length:  # only where even the ends are too much, and then it says so
        assert rows == mixed_rows(layout, compression, ends) and "cannot be kept" in selection.notes[0]
    else:
        assert selection.notes == ()
        if len(set(counts)) == 1 and len(selection.chunks(layout)) < len(chunks):  # one chunk more would not fit
            more = set(selection.groups(layout)) | {
                g
                for i, chunk in enumerate(chunks)
                if i == min(set(range(len(chunks))) - set(selection.chunks(layout)))
                for g in chunk
            }
            assert mixed_rows(layout, compression, more) > fraction * layout.length


@pytest.mark.parametrize(
    ("count", "size", "dense"), [(10, 1, (0, 5, 9)), (10, 2, (0, 3, 7, 9)), (5, 3, (0, 1, 2, 3, 4))]
)
def test_uniform(count: int, size: int, dense: tuple[int, ...]) -> None:
    assert UniformChunks(1, 4, ChunkBudget(chunks=size)).select(asked(groups(count))).dense == dense


@given(st.integers(3, 60), st.integers(1, 60))
def test_uniform_is_evenly_spread(count: int, size: int) -> None:
    chosen = UniformChunks(1, 4, ChunkBudget(chunks=size)).select(asked(groups(count))).dense
    assert chosen is not None
    inner = [chunk for chunk in chosen if 0 < chunk < count - 1]
    assert len(inner) == min(size, count - 2)
    gaps = [b - a for a, b in pairwise(inner)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_random_depends_on_seed_video_and_question_alone() -> None:
    layout, budget = groups(40), ChunkBudget(chunks=6)

    def draw(seed: int = 0, question_id: str = "q1", video: str = "v1") -> Any:
        prompt = Prompt("What?", question_id=question_id)
        return (
            RandomChunks(1, 4, budget, seed)
            .select(RelevanceQuery(Video(video, Path("a.mp4")), prompt, (1,), store_of(layout)))
            .dense
        )

    assert draw() == draw()
    assert len({draw(), draw(seed=1), draw(question_id="q2"), draw(video="v2")}) == 4
    times = [0] * 40
    for question in range(600):
        for chunk in draw(question_id=str(question)):
            times[chunk] += 1
    assert min(times[1:-1]) > 0.6 * 600 * 6 / 38  # none is favoured


# Attention


@pytest.mark.parametrize("host", [False, True])
def test_attention_mass_is_that_of_transformers(host: bool) -> None:
    ours, theirs = decoders()
    layout, policy, ids = Layout(3, 2, [2] * 9, [6] * 9), Chunked(2, 1), [4, 8, 15, 16, 23]
    sequence = Sequence.random(layout, 0, 32)
    rows = torch.cat([sequence.embeds, ours.embed(torch.tensor(ids))])
    mask = twin.allowed(layout, policy, len(ids))
    additive = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)[None, None]
    weights = theirs(inputs_embeds=rows[None], attention_mask=additive, output_attentions=True).attentions
    expected = sum(layer[0, :, layout.length :].sum((0, 1)) for layer in weights)[
        torch.tensor(layout.visual_positions())
    ]
    store = prefilled(ours, sequence, policy, Keys.UNROTATED, host)
    assert twin.worst(visual_mass(ours, sdpa(ours), store, ids), expected) < 1e-4


@torch.inference_mode()
def test_attention_finds_the_chunk_that_answers() -> None:
    """Keys of one chunk are turned towards the question: that chunk is chosen."""
    ours, _ = decoders()
    layout = Layout(3, 0, [2] * 12, [6] * 12)
    for target in (2, 4):
        sequence = Sequence.random(layout, 0, 32)
        store = prefilled(ours, sequence, Chunked(2, 1), Keys.UNROTATED)
        assert store.rows[VISUAL].unrotated is not None
        chunks = layout.chunks(2)
        start, end = layout.visual_rows[chunks[target][0]], layout.visual_rows[chunks[target][-1] + 1]
        store.rows[VISUAL].unrotated[:, :, start:end] *= 6  # sharper keys draw attention
        method = AttentionRelevance(2, 4, ChunkBudget(chunks=1), decoder=ours, attention=sdpa(ours))
        question = RelevanceQuery(VIDEO, Prompt("What?"), [5, 6, 7], store)
        assert method.select(question).dense == (0, target, 5)


# SigLIP


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random SigLIP with both towers and a tokenizer."""
    folder = tmp_path_factory.mktemp("siglip")
    words = ["<pad>", "<unk>", "a", "red", "blue", "green", "frame", "what", "colour", "is", "this"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = SiglipModel(
        SiglipConfig(
            text_config=sizes | {"vocab_size": len(words), "max_position_embeddings": 12, "projection_size": 16},
            vision_config=sizes | {"image_size": 28, "patch_size": 14},
        )
    )
    model.save_pretrained(folder)
    return folder


def towers(folder: Path) -> SiglipTowers:
    return SiglipTowers(str(folder), torch.device("cpu"), torch.float32)


def test_siglip_vectors_are_those_of_transformers(siglip_folder: Path) -> None:
    siglip = towers(siglip_folder)
    frames = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    pixels = torch.from_numpy((frames / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    tokens = siglip.tokenizer("what colour is this", padding="max_length", max_length=12, return_tensors="pt")
    with torch.inference_mode():
        out = siglip.model(pixel_values=pixels, input_ids=tokens["input_ids"])
    assert torch.allclose(siglip.images(frames), out.image_embeds, atol=1e-5)
    assert torch.allclose(siglip.text("what colour is this"), out.text_embeds[0], atol=1e-5)


@pytest.mark.parametrize("batches", [1, 3, 8])
def test_siglip_chooses_the_chunk_with_the_best_frame(siglip_folder: Path, batches: int) -> None:
    siglip = towers(siglip_folder)
    method = SiglipRelevance(2, 4, ChunkBudget(chunks=1), siglip=siglip)
    frames = np.random.default_rng(1).integers(0, 256, (46, 40, 30, 3), dtype=np.uint8)  # resized; 12 groups, 6 chunks
    observer = method.observer()
    for part in np.array_split(frames, batches):
        observer.see(part)
    similarity = siglip.images(frames) @ siglip.text("a red frame")
    best = int(similarity[8:40].argmax() + 8) // 8
    question = RelevanceQuery(VIDEO, Prompt("x", question="a red frame"), [1], store_of(groups(12)), observer)
    assert method.select(question).dense == tuple(sorted({0, best, 5}))


def test_siglip_texts_longer_than_it_reads_are_cut(siglip_folder: Path) -> None:
    siglip = towers(siglip_folder)
    assert torch.allclose(siglip.text("red " * 50), siglip.text("red " * 12))


def test_siglip_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"relevance\.model"):
        towers(tmp_path)


# Selection files

CONFIG = {"selected_topk": 5, "selected_chunk_size": 4, "compression": 2, "relevance oracle": "languagebind"}
TABLE = {
    "action": {"config": CONFIG, "selected_unit_indices": {"clip.mp4_What?": [3, 9, 99], "clip_Where?": []}},
    "nothing": None,
    "order": {
        "config": CONFIG | {"selected_chunk_size": 3},
        "selected_unit_indices": {"clip.mp4_Who?": [1], "other.mp4_What?": [0]},
    },
}


def written(folder: Path, content: Any = TABLE) -> str:
    (folder / "selection.json").write_text(json.dumps(content))
    return str(folder / "selection.json")


def test_selection_of_the_authors(tmp_path: Path) -> None:
    method, layout = SelectionFile(written(tmp_path)), groups(30)
    selection = method.select(asked(layout, "What?"))
    assert (selection.chunk_groups, selection.compression) == (4, 2)
    assert selection.dense == (0, 1, 4, 7)  # unit 3 = groups 6, 7; unit 9 = groups 18, 19; unit 99 is past the end
    everything = method.select(asked(layout, "Where?"))
    assert everything.dense is None and everything.groups(layout) == list(range(30))
    assert "empty row" in everything.notes[0]
    odd = method.select(asked(layout, "Who?"))
    assert (odd.chunk_groups, odd.dense) == (3, (0, 9))  # unit 1 starts in chunk 0 of three groups


def test_settings_override_the_file(tmp_path: Path) -> None:
    method = SelectionFile(written(tmp_path), chunk_groups=2, compression=8)
    selection = method.select(asked(groups(30), "What?"))
    assert (selection.chunk_groups, selection.compression, selection.dense) == (2, 8, (0, 3, 9, 14))


def test_a_miss_is_an_error_unless_told_otherwise(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="on_miss=dense") as raised:
        SelectionFile(written(tmp_path)).select(asked(groups(30), "Why?"))
    assert raised.value.kind == "no_selection"
    selection = SelectionFile(written(tmp_path), on_miss="dense").select(asked(groups(30), "Why?"))
    assert selection.dense is None and "no row" in selection.notes[0]


def test_rows_that_differ_count_as_missing(tmp_path: Path) -> None:
    again = {"config": CONFIG, "selected_unit_indices": {"clip.mp4_What?": [5], "clip_Where?": []}}
    method = SelectionFile(written(tmp_path, TABLE | {"again": again}))
    assert method.select(asked(groups(30), "Where?")).dense is None  # the same twice
    with pytest.raises(ModelError, match="2 rows that differ"):
        method.select(asked(groups(30), "What?"))


@pytest.mark.parametrize("zipped", [False, True])
def test_json_lines(tmp_path: Path, zipped: bool) -> None:
    rows = [
        {"question_id": "17", "key": None, "config": [7, 12, 4, "languagebind"], "units": [17, 0, 19]},
        {"question_id": "18", "key": "clip.mp4_What?", "config": [7, 16, 4, "mmvid"], "units": [20]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file = tmp_path / ("rows.jsonl.gz" if zipped else "rows.jsonl")
    file.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    method, layout = SelectionFile(str(file)), groups(150)
    selection = method.select(asked(layout, "Something else?", question_id="17"))
    assert (selection.chunk_groups, selection.compression, selection.dense) == (12, 4, (0, 2, 3, 12))
    assert method.select(asked(layout, "What?")).dense == (0, 2, 9)


@pytest.mark.parametrize("content", ["no json", '{"a": {"config": {}}}', "[1]", '{"a": 3}'])
def test_files_of_another_form(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json is no selection file"):
        SelectionFile(str(tmp_path / "a.json"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"relevance\.file"):
        SelectionFile(str(tmp_path / "b.json"))


def test_a_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    written(tmp_path / "short")
    row = {"question_id": "17", "key": None, "config": [7, 12, 4, "languagebind"], "units": [17]}
    (tmp_path / "long.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    method = SelectionFile(str(tmp_path))
    assert method.select(asked(groups(30), "What?")).dense == (0, 1, 4, 7)
    assert method.select(asked(groups(60), "Else?", question_id="17")).dense == (0, 2, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no selection file"):
        SelectionFile(str(tmp_path / "empty"))
