"""How large a Video-XL-2 is, for counting bytes and operations without building one. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evalkit.errors import CheckpointError

from ..shared.cost import LanguageSize
from .geometry import GRID, GROUP_FRAMES

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


@dataclass(frozen=True)
class VisionSize:
    """Sizes of the SigLIP tower (`layers`: those that run) and of the temporal module and projector behind it."""

    hidden: int
    intermediate: int
    layers: int
    patches: int
    patch_values: int  # numbers in a patch: channels * size * size
    grid: int  # positions of the resized map
    width: int  # of the language model

    @classmethod
    def of(cls, tower: Any, width: int) -> VisionSize:
        """From a `SiglipVisionConfig`, or anything with its attributes, whose last block is not used."""
        return cls(
            hidden=tower.hidden_size,
            intermediate=tower.intermediate_size,
            layers=tower.num_hidden_layers - 1,
            patches=(tower.image_size // tower.patch_size) ** 2,
            patch_values=CHANNELS * tower.patch_size**2,
            grid=GRID**2,
            width=width,
        )

    @property
    def weights(self) -> int:
        """Numbers in the weights of tower, temporal module and projector."""
        c, i, w = self.hidden, self.intermediate, self.width
        tower = self.patch_values * c + c + self.patches * c
        tower += self.layers * (4 * (c * c + c) + 2 * c * i + i + c + 4 * c)
        spatial = 2 * c + 4 * (c * c + c)
        temporal = 2 * c + 4 * (c * c + c) + 2 * 129 * c  # keys and values at distances of -64 to 64
        convolution = 27 * c * c + c
        return tower + 4 * c + 2 * (spatial + temporal + convolution) + c * w + w + w * w + w

    def frame(self) -> int:
        """One frame through the tower."""
        c, n = self.hidden, self.patches
        block = 8 * n * c * c + 4 * n * n * c + 4 * n * c * self.intermediate
        return self.layers * block + 2 * n * self.patch_values * c

    def group(self) -> int:
        """One group of four frames through the temporal module and the projector."""
        c, n = self.hidden, self.grid
        total = 0
        for slots in (4, 2):
            spatial = 8 * slots * n * c * c + 4 * slots * n * n * c
            temporal = 8 * slots * n * c * c + 8 * slots * slots * n * c
            convolution = 2 * 27 * (slots // 2) * n * c * c
            total += spatial + temporal + convolution
        return total + n * (2 * c * self.width + 2 * self.width * self.width)

    def frames(self, count: int) -> int:
        """`count` frames, the last group filled up."""
        groups = -(-count // GROUP_FRAMES)
        return count * self.frame() + groups * self.group()


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
    tower = SimpleNamespace(**values.get("vision_config", SO400M))
    try:
        return Sizes(language, VisionSize.of(tower, language.hidden))
    except AttributeError as error:
        raise KeyError(error.name) from None


def read_sizes(folder: Path) -> Sizes:
    """Of the checkpoint in `folder`. Raises CheckpointError."""
    file = folder / "config.json"
    try:
        return sizes(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} does not say how large the model is ({type(error).__name__}: {error}). Is it a Video-XL-2?"
        ) from None
