"""Golden cases: what the original programs (github.com/VectorSpaceLab/Video-XL) compute on tiny random weights.

Everything was computed in float32 on a CPU. A case is a folder with a `case.json` (what is computed, sizes, variants,
tolerances) and, where tensors are involved, `weights.safetensors`, `inputs.safetensors` and `expected.safetensors`.
Cases are found by the "case" field of their `case.json`, wherever they lie under `$EVALKIT_GOLDEN` (default: the copies
beside this file), so that a folder of further cases with other seeds and sizes runs through the same tests:

    EVALKIT_GOLDEN=/path/to/cases python -m pytest tests/golden
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

BUNDLED = Path(__file__).parent / "cases"
KINDS = (
    "dts",
    "vision",
    "sequence",
    "llm_pure",
    "llm_chunked",
    "llm_streaming",
    "llm_bilevel",
    "video_xl",
    "video_x2l",
    "frame_sampling",
    "prompts",
    "image_preprocessing",
    "end_to_end",
)
"""The kinds that have a test file here."""


@dataclass(frozen=True, eq=False)
class Case:
    """One case folder. Tensors are loaded when asked for; floating point ones come as float32."""

    folder: Path
    meta: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.meta["case"])

    def weights(self) -> dict[str, torch.Tensor]:
        """Random weights under the key names of the published checkpoint."""
        return self._tensors("weights")

    def inputs(self) -> dict[str, torch.Tensor]:
        return self._tensors("inputs")

    def expected(self) -> dict[str, torch.Tensor]:
        return self._tensors("expected")

    def _tensors(self, part: str) -> dict[str, torch.Tensor]:
        # stored as float16, exact; upcast before any arithmetic
        tensors = load_file(self.folder / f"{part}.safetensors")
        return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def root() -> Path:
    """The folder that is searched: `$EVALKIT_GOLDEN`, or the cases beside this file."""
    return Path(os.environ.get("EVALKIT_GOLDEN") or BUNDLED)


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case under `root()`, in the order of their paths."""
    files = sorted(root().rglob("case.json"))
    assert files, f"no case.json under {root()}"
    return tuple(Case(file.parent, json.loads(file.read_text("utf-8"))) for file in files)


def find_cases(kind: str) -> list[Any]:
    """The cases of one kind as parameters of `pytest.mark.parametrize("case", find_cases(kind))`."""
    found = [
        pytest.param(case, id=case.folder.relative_to(root()).as_posix()) for case in all_cases() if case.kind == kind
    ]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=f"no {kind} case under {root()}"))]


def find_variants(kind: str, key: str = "variants") -> list[Any]:
    """One parameter `(case, variant name)` for every entry of `case.meta[key]`, a mapping or a list."""
    found = [
        pytest.param(case, name, id=f"{case.folder.relative_to(root()).as_posix()}-{name}")
        for case in all_cases()
        if case.kind == kind
        for name in (case.meta[key] if isinstance(case.meta[key], dict) else range(len(case.meta[key])))
    ]
    return found or [pytest.param(None, None, marks=pytest.mark.skip(reason=f"no {kind} case under {root()}"))]


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, what: str = "") -> None:
    """Same shape, and no element further away than `tolerance` (absolute)."""
    assert tuple(actual.shape) == tuple(expected.shape), f"{what}: {tuple(actual.shape)} != {tuple(expected.shape)}"
    worst = (actual.double() - expected.double()).abs().max().item() if actual.numel() else 0.0
    assert worst <= tolerance, f"{what}: largest difference {worst:.3g} > {tolerance:.3g}"
