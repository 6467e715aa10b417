"""`config.json` of a Video-XL-2 checkpoint: sizes are read from it, everything else in it must be as published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Qwen2Config, SiglipVisionConfig

from evalkit.errors import CheckpointError

from ..shared.json_file import read_json
from .dts import NORM_GROUPS
from .sizes import SO400M

PUBLISHED = {
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "unires",
    "mm_resampler_type": "spatial_pool",
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "use_pos_skipping": False,
    "use_sliding_window": False,
}
"""What this implementation computes; another value is an error, a missing key is not. `mm_vision_select_layer` is not
here because the authors' code ignores it."""

OVERWRITTEN = {"mm_spatial_pool_mode": "average", "mm_spatial_pool_stride": 2, "rope_scaling": None}
"""What the authors' code sets when it loads a checkpoint, whatever its config.json says. Another value is a remark."""

LANGUAGE_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the vision tower and of the language model. `remarks`: values of config.json that are not used."""

    vision: SiglipVisionConfig
    language: Qwen2Config
    remarks: tuple[str, ...] = ()


def read_config(folder: Path) -> ModelConfig:
    """The configuration in `folder`. Raises CheckpointError naming the key that does not fit."""
    file = folder / "config.json"
    values = read_json(file)
    for key, published in PUBLISHED.items():
        if values.get(key, published) != published:
            raise CheckpointError(f"{file}: {key} is {values[key]!r}, but Video-XL-2 has {published!r}.")
    vision = vision_config(file, values)
    if values.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
        raise CheckpointError(
            f"{file}: mm_hidden_size is {values['mm_hidden_size']!r}, but the vision tower's width is "
            f"{vision.hidden_size}."
        )
    return ModelConfig(vision, language_config(file, values), overwritten(values, vision.hidden_size))


def overwritten(values: dict[str, Any], width: int) -> tuple[str, ...]:
    """One sentence for each value that differs from what the authors' code sets when it loads a checkpoint."""
    loaded = OVERWRITTEN | {"mm_spatial_pool_out_channels": width}
    return tuple(
        f"config.json has {key}={values[key]!r}; Video-XL-2 is loaded with {value!r}, as by the authors' code"
        for key, value in loaded.items()
        if values.get(key, value) != value
    )


def vision_config(file: Path, values: dict[str, Any]) -> SiglipVisionConfig:
    sizes = values.get("vision_config", SO400M)
    if not isinstance(sizes, dict) or any(not isinstance(sizes.get(key), int) for key in SO400M):
        raise CheckpointError(f"{file}: vision_config must give {', '.join(SO400M)} as whole numbers.")
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if width % NORM_GROUPS or width % heads:
        raise CheckpointError(
            f"{file}: the vision tower's width {width} is not divisible by {heads} heads and by {NORM_GROUPS}."
        )
    return SiglipVisionConfig(**{key: sizes[key] for key in SO400M})


def language_config(file: Path, values: dict[str, Any]) -> Qwen2Config:
    if absent := [key for key in LANGUAGE_SIZES if key not in values]:
        raise CheckpointError(f"{file} lacks {', '.join(absent)}: it is not the configuration of a Video-XL-2.")
    optional = ("hidden_act", "max_position_embeddings", "rms_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id")
    return Qwen2Config(
        **{key: values[key] for key in LANGUAGE_SIZES},
        **{key: values[key] for key in optional if key in values},
        tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta(file, values)},
        use_sliding_window=False,
    )


def rope_theta(file: Path, values: dict[str, Any]) -> float:
    """The base of the rotary embedding, where transformers 4 (`rope_theta`) or 5 (`rope_parameters`) writes it. Scaling
    is not read: the authors' code switches it off when it loads a checkpoint."""
    parameters = values.get("rope_parameters") or {}
    theta = values.get("rope_theta", parameters.get("rope_theta"))
    if not isinstance(theta, int | float) or theta <= 0:
        raise CheckpointError(f"{file} gives no rope_theta.")
    return float(theta)
