"""Loading a checkpoint: the published layout, and one clear error for each way in which a folder can be wrong."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from evalkit.errors import CheckpointError
from evalkit.models.shared import checkpoint_folder as folders
from evalkit.models.shared.qwen2 import Qwen2Decoder
from evalkit.models.shared.qwen_tokenizer import read_tokenizer
from evalkit.models.videoxl2 import mini
from evalkit.models.videoxl2.checkpoint import TOWER, Loaded, load, load_tokenizer, published_names
from evalkit.models.videoxl2.config import SO400M, ModelConfig, read_config
from evalkit.models.videoxl2.vision import Vision

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint folder, not to be changed."""
    place = tmp_path_factory.mktemp("published")
    mini.write(place)
    return place


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(published, tmp_path / "checkpoint"))


def weights(place: Path) -> dict[str, torch.Tensor]:
    return {key: value for file in sorted(place.glob("*.safetensors")) for key, value in load_file(file).items()}


def rewrite(place: Path, state: dict[str, torch.Tensor]) -> None:
    """Replace the weights by a single file."""
    for file in [*place.glob("*.safetensors"), *place.glob("*.index.json")]:
        file.unlink()
    save_file(state, place / "model.safetensors")


def edit_json(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def try_load(place: Path, dtype: torch.dtype = torch.float32) -> Loaded:
    return load(place, dtype=dtype, device=CPU)


def message(place: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        try_load(place)
    return str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_tensor_arrives_cast(published: Path, dtype: torch.dtype) -> None:
    loaded, state = try_load(published, dtype), weights(published)
    places = published_names(loaded.vision, loaded.decoder)
    assert set(places) == {key for key in state if "post_layernorm" not in key}
    for key, (part, name) in places.items():
        parameter = part.get_parameter(name)
        assert not parameter.requires_grad
        assert torch.equal(parameter, state[key].to(dtype)), key
    for half in (loaded.vision, loaded.decoder):
        assert not any(tensor.is_meta for tensor in [*half.parameters(), *half.buffers()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_and_stays_close(published: Path, dtype: torch.dtype) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 384, 384, 3), dtype=np.uint8)
    exact, rounded = try_load(published).vision.encode(frames), try_load(published, dtype).vision.encode(frames)
    assert exact.shape == (2, 144, 128) and rounded.dtype == dtype
    assert (rounded.float() - exact).norm() / exact.norm() < (0.05 if dtype == torch.bfloat16 else 0.01)


def test_released_sizes() -> None:
    """The names, shapes and parameter counts of the published model, without its weights."""
    language = mini.CONFIG | {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    }
    vision_sizes = {"mm_hidden_size": 1152, "mm_spatial_pool_out_channels": 1152, "vision_config": SO400M}
    config = read_config_of(language | vision_sizes)
    with torch.device("meta"):
        vision, decoder = Vision(config.vision, config.language.hidden_size), Qwen2Decoder(config.language)
    shapes = {
        key: list(part.get_parameter(name).shape) for key, (part, name) in published_names(vision, decoder).items()
    }
    assert sum(parameter.numel() for parameter in vision.dts.parameters()) == 93_526_272
    assert sum(np.prod(shape) for shape in shapes.values()) / 1e9 == pytest.approx(8.124, abs=0.001)
    assert (
        shapes.items()
        >= {
            "model.embed_tokens.weight": [152064, 3584],
            "lm_head.weight": [152064, 3584],
            "model.norm.weight": [3584],
            "model.layers.27.self_attn.q_proj.weight": [3584, 3584],
            "model.layers.27.self_attn.k_proj.bias": [512],
            "model.layers.0.self_attn.v_proj.weight": [512, 3584],
            "model.layers.0.self_attn.o_proj.weight": [3584, 3584],
            "model.layers.0.mlp.down_proj.weight": [3584, 18944],
            f"{TOWER}embeddings.patch_embedding.weight": [1152, 3, 14, 14],
            f"{TOWER}embeddings.position_embedding.weight": [729, 1152],
            f"{TOWER}encoder.layers.25.self_attn.out_proj.bias": [1152],
            f"{TOWER}encoder.layers.25.mlp.fc1.weight": [4304, 1152],
            "model.sae.temporal_encoding": [4, 1152],
            "model.sae.encoder.0.q.weight": [1152, 1152, 1, 1, 1],
            "model.sae.encoder.3.proj_out.bias": [1152],
            "model.sae.encoder.1.qkv.weight": [3456, 1152, 1],
            "model.sae.encoder.4.relative_position_v.embeddings_table": [129, 1152],
            "model.sae.encoder.4.proj_out.weight": [1152, 1152, 1],
            "model.sae.encoder.5.conv.weight": [1152, 1152, 3, 3, 3],
            "model.mm_projector.0.weight": [3584, 1152],
            "model.mm_projector.2.weight": [3584, 3584],
        }.items()
    )
    assert f"{TOWER}encoder.layers.26.layer_norm1.weight" not in shapes
    assert len(shapes) == 3 + 28 * 12 + 3 + 26 * 16 + 1 + 2 * (10 + 8 + 2) + 4


def read_config_of(values: dict[str, Any]) -> ModelConfig:
    """`read_config` of a folder that holds nothing else."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.json").write_text(json.dumps(values))
        return read_config(Path(place))


def test_the_released_tower_needs_no_vision_config() -> None:
    published = {key: value for key, value in mini.CONFIG.items() if key != "vision_config"}
    published |= {"mm_hidden_size": 1152, "mm_spatial_pool_out_channels": 1152, "mm_vision_tower": "/somewhere/siglip"}
    vision = read_config_of(published).vision
    assert (vision.hidden_size, vision.num_hidden_layers, vision.hidden_act) == (1152, 27, "gelu_pytorch_tanh")
    assert vision.layer_norm_eps == 1e-6


def test_a_single_file_is_as_good_as_shards(published: Path, copy: Path) -> None:
    rewrite(copy, weights(published))
    one, many = try_load(copy), try_load(published)
    for key, value in many.decoder.state_dict().items():
        assert torch.equal(one.decoder.state_dict()[key], value)


def test_unused_tensors_are_ignored(copy: Path) -> None:
    unused = {
        "model.text_mlp.0.weight": torch.zeros(128, 128),
        f"{TOWER}head.probe": torch.zeros(64),
        f"{TOWER}encoder.layers.2.layer_norm1.weight": torch.ones(64),  # the block behind the kept ones
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16),
    }
    rewrite(copy, weights(copy) | unused)
    try_load(copy)


@pytest.mark.parametrize(
    "key",
    [
        "model.text_mlpx.weight",
        f"{TOWER}encoder.layers.3.layer_norm1.weight",
        "model.layers.3.mlp.up_proj.weight",  # of a deeper language model
        "model.image_newline",
        "mm_projector.0.weight",
    ],
)
def test_an_unknown_tensor_is_a_remark(published: Path, copy: Path, key: str) -> None:
    assert try_load(published).remarks == ()
    rewrite(copy, weights(copy) | {key: torch.zeros(2)})
    (remark,) = try_load(copy).remarks
    assert remark == f"the checkpoint has 1 tensors that Video-XL-2 does not use: {key}"
    del (state := weights(copy))["model.norm.weight"]
    rewrite(copy, state)
    assert "1 missing: model.norm.weight" in message(copy) and key not in message(copy)


def test_missing_tensors_are_named_and_counted(copy: Path) -> None:
    rewrite(copy, {key: value for key, value in weights(copy).items() if not key.startswith("model.sae.")})
    text = message(copy)
    assert "41 missing: model.sae.temporal_encoding" in text and "and 36 more" in text


def test_a_tensor_of_another_shape_is_an_error(copy: Path) -> None:
    rewrite(copy, weights(copy) | {"model.norm.weight": torch.zeros(64)})
    assert "1 of another shape: model.norm.weight is [64] and should be [128]" in message(copy)


def test_quantised_weights_are_an_error(copy: Path) -> None:
    rewrite(copy, weights(copy) | {"model.norm.weight": torch.zeros(128, dtype=torch.int8)})
    assert "quantised" in message(copy)


def test_tied_embeddings(copy: Path) -> None:
    state = weights(copy)
    del state["lm_head.weight"]
    rewrite(copy, state)
    assert "1 missing: lm_head.weight" in message(copy)
    edit_json(copy / "config.json", lambda config: config.update(tie_word_embeddings=True))
    decoder = try_load(copy).decoder
    assert torch.equal(decoder.lm_head.weight, decoder.embed_tokens.weight)
    assert decoder.lm_head.weight.data_ptr() == decoder.embed_tokens.weight.data_ptr()


def test_no_config(copy: Path) -> None:
    (copy / "config.json").unlink()
    assert "it has no config.json" in message(copy)


def test_no_weights(copy: Path) -> None:
    for file in [*copy.glob("*.safetensors"), *copy.glob("*.index.json")]:
        file.unlink()
    assert "holds no weights" in message(copy)
    (copy / "pytorch_model.bin").write_bytes(b"")
    assert "safetensors" in message(copy) and ".bin" in message(copy)


def test_a_missing_shard(copy: Path) -> None:
    (copy / "model-00002-of-00003.safetensors").unlink()
    assert "lacks 1 of 3 weight files: model-00002-of-00003.safetensors" in message(copy)


@pytest.mark.parametrize("kept", [0, 4, 1000, 500_000])
def test_a_shard_that_is_cut_short(copy: Path, kept: int) -> None:
    shard = copy / "model-00001-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:kept])
    text = message(copy)
    assert shard.name in text and "cut short" in text


def test_a_shard_without_what_the_index_promises(copy: Path) -> None:
    edit_json(copy / folders.INDEX, lambda index: index["weight_map"].update(extra="model-00001-of-00003.safetensors"))
    assert "lacks extra" in message(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": []}'])
def test_a_broken_index(copy: Path, content: str) -> None:
    (copy / folders.INDEX).write_text(content)
    assert folders.INDEX in message(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_broken_config(copy: Path, content: str) -> None:
    (copy / "config.json").write_bytes(content.encode("latin-1"))
    assert "config.json" in message(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mm_projector_type": "linear"}, "mm_projector_type is 'linear', but Video-XL-2 has 'mlp2x_gelu'"),
        ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type"),
        ({"mm_hidden_size": 1024}, "mm_hidden_size is 1024, but the vision tower's width is 64"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_theta": None}, "gives no rope_theta"),
        ({"rope_theta": -1}, "gives no rope_theta"),
        ({"vision_config": {"hidden_size": 64}}, "vision_config must give"),
        ({"vision_config": mini.CONFIG["vision_config"] | {"hidden_size": 48}}, "divisible"),
        ({"hidden_size": None}, "lacks hidden_size"),
    ],
)
def test_a_config_of_another_model(copy: Path, change: dict[str, Any], words: str) -> None:
    def apply(config: dict[str, Any]) -> None:
        for key, value in change.items():
            config[key] = value
            if value is None:
                del config[key]

    edit_json(copy / "config.json", apply)
    assert words in message(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mm_spatial_pool_stride", 4),
        ("mm_spatial_pool_mode", "bilinear"),
        ("mm_spatial_pool_out_channels", 1024),
        ("rope_scaling", {"type": "yarn", "factor": 4}),
    ],
)
def test_what_the_authors_overwrite_at_load_is_a_remark(published: Path, copy: Path, key: str, value: Any) -> None:
    edit_json(copy / "config.json", lambda config: config.update({key: value}))
    loaded, plain = try_load(copy), try_load(published)
    (remark,) = loaded.remarks
    assert remark.startswith(f"config.json has {key}={value!r}; Video-XL-2 is loaded with")
    assert loaded.decoder.rope.theta == plain.decoder.rope.theta
    assert torch.equal(loaded.decoder.norm.weight, plain.decoder.norm.weight)


@pytest.mark.parametrize(("content", "penalty"), [({"repetition_penalty": 1.05, "top_k": 20}, 1.05), ({}, 1.0)])
def test_the_generation_config_is_read(copy: Path, content: dict[str, Any], penalty: float) -> None:
    (copy / "generation_config.json").write_text(json.dumps(content))
    assert try_load(copy).generation.repetition_penalty == penalty
    assert folders.provenance(str(copy))["generation"] == {"repetition_penalty": penalty}


@pytest.mark.parametrize("value", ["1.05", 0, -1, True, [1.0]])
def test_a_penalty_that_is_no_number(copy: Path, value: Any) -> None:
    (copy / "generation_config.json").write_text(json.dumps({"repetition_penalty": value}))
    assert "repetition_penalty is" in message(copy)


def test_rope_theta_of_transformers_4_and_5(copy: Path) -> None:
    assert read_config(copy).language.rope_parameters["rope_theta"] == 1e6

    def as_transformers_5(config: dict[str, Any]) -> None:
        del config["rope_theta"], config["rope_scaling"]
        config["rope_parameters"] = {"rope_theta": 500000.0, "rope_type": "default"}

    edit_json(copy / "config.json", as_transformers_5)
    assert read_config(copy).language.rope_parameters["rope_theta"] == 5e5
    assert try_load(copy).decoder.rope.theta == 5e5


@pytest.mark.parametrize("spoil", ["remove", "garble", "no markers"])
def test_a_tokenizer_that_is_not_qwens(copy: Path, spoil: str) -> None:
    if spoil == "remove":
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
            (copy / name).unlink()
    elif spoil == "garble":
        (copy / "tokenizer.json").write_text("{")
    else:
        edit_json(copy / "tokenizer.json", lambda tokenizer: tokenizer.update(added_tokens=[]))
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_tokenizer(copy)


def test_the_tokenizer_is_also_what_auto_tokenizer_finds(published: Path, recwarn: pytest.WarningsRecorder) -> None:
    text = "<|im_start|>user\nTime 12.5s: What colour is the car?<|im_end|>"
    with pytest.warns():  # about the model type, which transformers does not know
        theirs = AutoTokenizer.from_pretrained(published)
    assert theirs.encode(text) == load_tokenizer(published).encode(text)


def test_a_tokenizer_without_tokenizer_json(published: Path, copy: Path) -> None:
    """The layout `vocab.json` and `merges.txt`: the same ids, for the model and for the dry run."""
    whole = load_tokenizer(published)
    added = {word: whole.convert_tokens_to_ids(word) for word in mini.SPECIAL}
    (copy / "tokenizer.json").unlink()
    (copy / "added_tokens.json").write_text(json.dumps(added))
    parts, counting = load_tokenizer(copy), read_tokenizer(copy)
    assert counting is not None
    for text in ("<|im_start|>user\nTime 12.5s: What's the car's colour?\n\n", "naïve 你好 12:30<|im_end|>"):
        expected = whole.encode(text, add_special_tokens=False)
        assert parts.encode(text, add_special_tokens=False) == expected
        assert counting.encode(text, add_special_tokens=False).ids == expected


def test_where_a_checkpoint_is(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folders.resolve(str(published)) == published
    with pytest.raises(CheckpointError, match="revision=main means nothing"):
        folders.resolve(str(published), "main")
    with pytest.raises(CheckpointError, match="is a file"):
        folders.resolve(str(published / "config.json"))
    for nowhere in (str(tmp_path / "nowhere"), "./nowhere", "nowhere", "a/b/c", ""):
        with pytest.raises(CheckpointError, match="no such folder, and it is no hub id"):
            folders.resolve(nowhere)


def test_offline_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="hf download BAAI/Video-XL-2") as error:
        folders.resolve("BAAI/Video-XL-2", "0123abc")
    assert "at revision 0123abc is not on this machine" in str(error.value)
    assert folders.provenance("BAAI/Video-XL-2") == {"checkpoint": "BAAI/Video-XL-2", "revision": None}


def test_a_hub_copy_is_found_and_known_by_its_commit(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--BAAI--Video-XL-2"
    shutil.copytree(published, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert folders.resolve("BAAI/Video-XL-2") == repository / "snapshots" / commit
    known = folders.provenance("BAAI/Video-XL-2")
    assert known["revision"] == commit
    assert known["files"] == {file.name: file.stat().st_size for file in published.glob("*.safetensors")}


def test_provenance_of_a_folder(published: Path, copy: Path) -> None:
    known = folders.provenance(str(published))
    both = (published / "config.json").read_bytes() + (published / folders.INDEX).read_bytes()
    assert known["config_sha256"] == sha256(both).hexdigest()
    assert "revision" not in known and len(known["files"]) == 3
    edit_json(copy / "config.json", lambda config: config.update(rms_norm_eps=1e-5))
    assert folders.provenance(str(copy))["config_sha256"] != known["config_sha256"]
