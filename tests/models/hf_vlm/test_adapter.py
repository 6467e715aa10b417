"""hf_vlm behind the model contract: what the processor is told, costs, errors, and a whole run of the miniature."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("the video processors of transformers need torchvision", allow_module_level=True)

from evalkit.errors import CheckpointError, ConfigError, ModelError
from evalkit.models.hf_vlm import HFVLM, HFVLMMini
from evalkit.models.hf_vlm.frames import check_pixels, metadata_of
from evalkit.models.hf_vlm.settings import PixelSettings
from evalkit.runs.lines import read_prefills
from evalkit.types import Context, Cue, Decoding, FramePlan, Prompt, Video
from tests.helpers import only_run, run_here, toy_arguments
from tests.toy import write_toy

from .clips import DECODING, PROMPTS, VIDEO, Frames, by_transformers, context, loaded, model
from .tiny import checkpoint


def test_what_the_processor_is_told() -> None:
    plan = FramePlan((20, 25, 30), (2.0, 2.5, 3.0), 10.0, 100, "test")
    whole = metadata_of(VIDEO, plan)
    assert (whole["total_num_frames"], whole["fps"], whole["duration"]) == (100, 10.0, 10.0)
    assert whole["frames_indices"] == [20, 25, 30]
    part = metadata_of(Video("v", Path("v.mp4"), start_s=2.0, end_s=3.4), plan)
    assert (part["total_num_frames"], part["duration"]) == (15, 1.5)


def test_every_frame_of_the_plan_is_read_and_no_other() -> None:
    """Qwen3-VL writes the time of every second frame into the text, SmolVLM that of each."""
    made = model("qwen3_vl")
    cache = made.prefill(context(6))
    text = made.processor.tokenizer.decode(cache.prefix.cut.ids)  # type: ignore[union-attr]
    assert [f"<{t:.1f} seconds>" in text for t in (0.2, 1.2, 2.2, 3.2)] == [True, True, True, False]
    made = model("smolvlm")
    text = made.processor.tokenizer.decode(made.prefill(context(130)).prefix.cut.ids)  # type: ignore[union-attr]
    assert text.count("Frame from") == 130 and "Frame from 01:04:" in text


def test_what_a_prefill_and_a_reply_cost() -> None:
    made = model("internvl")
    cache = made.prefill(context(6))
    cost = cache.cost
    assert (cost.frames, cost.visual_tokens, cost.video_decode_s) == (6, 6 * 4, 1.5)
    assert cost.context_tokens == len(cache.prefix.cut.ids)  # type: ignore[union-attr]
    layers, heads, width = 3, 2, 8
    assert cost.kv_bytes == cost.context_tokens * layers * heads * width * 2 * 4
    assert cost.prefill_s is not None and cost.prefill_s > 0 and cost.flops is None
    reply = made.generate(cache, PROMPTS[0], DECODING)
    assert reply.new_tokens == 6 and reply.finish == "length"
    assert reply.prompt_tokens is not None and reply.prompt_tokens > 5
    assert reply.first_token_s is not None and 0 < reply.first_token_s == reply.question_s
    assert reply.generate_s is not None and reply.generate_s > 0 and reply.kv_bytes_used == cost.kv_bytes
    cache.close()
    assert cache.prefix is None and cache.frames is None


def test_half_precision() -> None:
    made = HFVLMMini(dtype="bfloat16", pixels=PixelSettings()).build()
    cache = made.prefill(context())  # type: ignore[attr-defined]
    assert made.generate(cache, PROMPTS[0], DECODING).text in tuple("ABCD")  # type: ignore[attr-defined]
    assert made.reuse.right  # type: ignore[attr-defined]


def test_subtitles_are_refused_or_stand_behind_the_video() -> None:
    cues = (Cue(3, "later words"), Cue(0, "first words"))
    with pytest.raises(ModelError, match="cues=after_video"):
        model("qwen2_5_vl").prefill(context(cues=cues))
    made = model("qwen2_5_vl", cues="after_video")
    assert made.context_text(context(cues=cues)).endswith("<|vision_end|>first words\nlater words\n")
    cache = made.prefill(context(cues=cues))
    plain = made.generate(made.prefill(context()), PROMPTS[0], DECODING)
    assert made.generate(cache, PROMPTS[0], DECODING).text != plain.text


def test_pixel_budgets_that_would_be_ignored() -> None:
    check_pixels(PixelSettings(per_frame_max=3136), loaded("qwen2_5_vl")[1].video_processor)
    with pytest.raises(ConfigError, match="would be ignored"):
        check_pixels(PixelSettings(per_frame_max=3136), loaded("internvl")[1].video_processor)
    with pytest.raises(ConfigError, match="multiple_of=32"):
        check_pixels(PixelSettings(per_frame_max=3136), loaded("qwen3_vl")[1].video_processor)


def test_frames_under_a_budget_keep_their_size() -> None:
    made = model("qwen2_5_vl", pixels=PixelSettings(per_frame_max=100_000))
    frames = Frames(4, height=84, width=112)
    cache = made.prefill(Context(VIDEO, frames))
    assert cache.cost.visual_tokens == 2 * 3 * 4


def test_arguments_for_the_processor() -> None:
    size = {"shortest_edge": 784, "longest_edge": 784}
    cost = model("qwen2_5_vl", processor={"size": size}).prefill(context()).cost
    assert cost.visual_tokens == 3


def test_arguments_that_the_processor_would_ignore() -> None:
    with pytest.raises(ConfigError, match=r'processor\.sise.*Did you mean "size"'):
        HFVLM(checkpoint=str(checkpoint("qwen2_5_vl")), processor={"sise": 1}, device="cpu").build()


@pytest.mark.parametrize("family", ["qwen3_vl", "internvl"])
def test_one_frame(family: str) -> None:
    """What a processor refuses fails this video, not the run."""
    made = model(family)
    if family == "qwen3_vl":
        with pytest.raises(ModelError, match=r"refuses /data/clip\.mp4.*temporal_factor"):
            made.prefill(context(1))
    else:
        assert made.generate(made.prefill(context(1)), PROMPTS[0], DECODING).new_tokens == 6


def test_text_with_a_placeholder() -> None:
    made = model("llava_onevision")
    cache = made.prefill(context())
    with pytest.raises(ModelError, match="<video>"):
        made.generate(cache, Prompt("What is <video>?"), DECODING)
    together = model("llava_onevision", question_batch=2)
    prompts = [*PROMPTS[:2], Prompt("What is <video>?")]  # the last two in one batch
    replies = list(together.generate_all(together.prefill(context()), prompts, DECODING))
    assert [isinstance(reply, ModelError) for reply in replies] == [False, False, True]


def test_positions_beyond_those_of_training_are_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("internvl")
    cache = made.prefill(context())
    assert made.generate(cache, PROMPTS[0], DECODING).remarks == ()
    monkeypatch.setattr(made.network.config.get_text_config(), "max_position_embeddings", 80)
    assert "made for 80" in made.generate(cache, PROMPTS[0], DECODING).remarks[0]


def test_a_proof_that_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("internvl")
    cache = made.prefill(context())
    monkeypatch.setattr(made, "proof", out_of_memory)
    reply = made.generate(cache, PROMPTS[0], DECODING)
    assert "does not fit" in reply.remarks[0] and cache.prefix is None
    assert reply.text == by_transformers("internvl", context(), PROMPTS[0])


def test_a_chat_template_of_the_user(tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(
        "{% for m in messages %}{% for c in m.content %}{{ c.text or '<|video_pad|>' }}{% endfor %}{% endfor %}"
    )
    made = HFVLM(checkpoint=str(checkpoint("qwen2_5_vl")), dtype="float32", chat_template=str(file)).build()
    assert made.context_text(context()) == "<|video_pad|>"  # type: ignore[attr-defined]
    file.write_text("{{ raise_exception('no videos') }}")
    with pytest.raises(ConfigError, match="no videos"):
        HFVLM(checkpoint=str(checkpoint("qwen2_5_vl")), chat_template=str(file)).build()


def test_a_template_that_refuses_a_system_text(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("qwen2_5_vl")
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system text') }}{% endif %}"
    monkeypatch.setattr(made.processor, "chat_template", refusing + made.processor.chat_template)
    with pytest.raises(ModelError, match="no system text"):
        made.prefill(context(system="You see."))


@pytest.mark.parametrize("wrong", ["/no/such/folder", "text_only"])
def test_checkpoints_that_cannot_be_used(wrong: str, tmp_path: Path) -> None:
    if wrong == "text_only":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
        wrong = str(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoint="):
        HFVLM(checkpoint=wrong, dtype="float32", device="cpu").build()


# Running out of memory


def out_of_memory(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_that_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("qwen2_5_vl", question_batch=3)
    cache = made.prefill(context())
    expected = [made.generate(cache, prompt, DECODING).text for prompt in PROMPTS]
    with monkeypatch.context() as patch:
        patch.setattr(made, "run", out_of_memory)
        with pytest.raises(ModelError, match="while answering") as raised:
            made.generate(cache, PROMPTS[0], DECODING)
        assert raised.value.kind == "out_of_memory"
        patch.setattr(made, "prefilled", out_of_memory)
        with pytest.raises(ModelError, match="while prefilling 6 frames"):
            made.prefill(context())
    monkeypatch.setattr(made, "answer_batch", out_of_memory)  # a batch that does not fit: one by one
    assert [reply.text for reply in made.generate_all(cache, PROMPTS, DECODING)] == expected  # type: ignore[union-attr]


# torchvision


def test_a_torchvision_for_another_torch_is_explained(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('built for torch 1.0')")
    code = "from evalkit.models.hf_vlm.checkpoint import need_torchvision; need_torchvision()"
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path)
    assert "ConfigError: torchvision cannot be imported (built for torch 1.0)" in done.stderr


# A whole run


def test_a_run_of_the_miniature(tmp_path: Path) -> None:
    data = write_toy(tmp_path / "data")
    assert run_here(toy_arguments(data, tmp_path / "results", "model=hf_vlm_mini", "decoding.max_new_tokens=4")) == 0
    run = only_run(tmp_path / "results")
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert len(records) == 12 and {r["status"] for r in records} == {"ok"}
    assert all(r["reply"] in tuple("ABCD") and r["finish"] == "stop" for r in records)
    assert "proven on the first video" in records[0]["details"]["prefix_reuse"]
    prefills, _ = read_prefills(run / "prefills.jsonl")
    assert len(prefills) == 4 and all(p.tokens["visual"] > 0 and p.kv_bytes for p in prefills)
    assert run.parent.name == "hf-vlm-mini"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["weights"]["files"] and manifest["weights"]["checkpoint"].startswith("hf_vlm_mini-")


def test_replies_depend_on_the_video() -> None:
    made = HFVLMMini(pixels=PixelSettings()).build()
    texts = set()
    for seed in range(4):
        cache = made.prefill(context(4, seed))  # type: ignore[attr-defined]
        texts.add(tuple(made.generate(cache, p, Decoding(2)).text for p in PROMPTS))  # type: ignore[attr-defined]
    assert len(texts) > 1


def test_frames_arrive_unchanged() -> None:
    from evalkit.models.hf_vlm.frames import read_frames

    frames = Frames(20)
    expected = np.concatenate(list(frames.batches(99)))
    assert np.array_equal(read_frames(frames).permute(0, 2, 3, 1).numpy(), expected)
