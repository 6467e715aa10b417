"""How large a Video-XL-2 is, for counting bytes and operations without building one. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evalkit.errors import CheckpointError

from ..shared.cost import LanguageSize, VisionSize
from .settings import VISUAL_TOKENS

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
"""google/siglip-so400m-patch14-384. The published config.json only names the tower, so its sizes stand here; a
`vision_config` in config.json overrides them. The count includes the last block, which is not used."""

QWEN2_5_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
"""Qwen/Qwen2.5-7B-Instruct, the language model of the released checkpoint."""

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
CHANNELS = 3
POOLED = 4
"""Positions of the feature map that are averaged into one visual token."""


@dataclass(frozen=True)
class Sizes:
    language: LanguageSize
    vision: VisionSize

    @property
    def weights(self) -> int:
        """Numbers in the checkpoint that are used."""
        return self.language.weights + self.vision.weights


def sizes(values: dict[str, Any]) -> Sizes:
    """From the content of a config.json. Raises KeyError for a size that it lacks."""
    language = LanguageSize.of(SimpleNamespace(**{key: values[key] for key in QWEN2_5_7B}))
    tower = values.get("vision_config", SO400M)
    vision = VisionSize(
        hidden=tower["hidden_size"],
        intermediate=tower["intermediate_size"],
        layers=tower["num_hidden_layers"] - 1,
        patches=(tower["image_size"] // tower["patch_size"]) ** 2,
        patch_values=CHANNELS * tower["patch_size"] ** 2,
        grid=POOLED * VISUAL_TOKENS,
        width=language.hidden,
    )
    return Sizes(language, vision)


def read_sizes(folder: Path) -> Sizes:
    """Of the checkpoint in `folder`. Raises CheckpointError."""
    file = folder / "config.json"
    try:
        return sizes(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} does not say how large the model is ({type(error).__name__}: {error}). Is it a Video-XL-2?"
        ) from None
