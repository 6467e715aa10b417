"""`generation_config.json` of a checkpoint: what its authors' `generate` applies by default. Imports no torch.

Qwen2.5-Instruct ships `repetition_penalty` 1.05, which transformers applies to greedy decoding too. The sampling values
beside it (temperature, top_p, top_k) have no effect there: the protocol says how a benchmark is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import CheckpointError

from .json_file import read_json

GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True)
class GenerationConfig:
    """`repetition_penalty`: divisor of positive, factor of negative logits of tokens already generated; 1: off."""

    repetition_penalty: float = 1.0


def read_generation_config(folder: Path) -> GenerationConfig:
    """That of the checkpoint in `folder`; the defaults where it has none. Raises CheckpointError."""
    file = folder / GENERATION_CONFIG
    if not file.is_file():
        return GenerationConfig()
    penalty = read_json(file).get("repetition_penalty")
    if penalty is None:
        return GenerationConfig()
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 < penalty < float("inf"):
        raise CheckpointError(f"{file}: repetition_penalty is {penalty!r}, not a number above 0.")
    return GenerationConfig(float(penalty))
