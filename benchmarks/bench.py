"""Shared by the benchmarks: a small random Qwen2, a context for it, a new process for each measurement, a table.

The model has the sizes of the baseline measurement of the original code: hidden 256, 4 layers, 8 query and 2 key heads,
152 tokens a group of four frames. Its times are not those of the released model; compare only the rows of one table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config

from evalkit.models.shared.attention import kernel
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import Layout, Policy
from evalkit.models.shared.prefill import Prefill
from evalkit.models.shared.qwen2 import Qwen2Decoder

PREFIX, TEXT, VISUAL, SUFFIX = 14, 8, 144, 40
SIZES = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "tie_word_embeddings": False,
}


def small_model() -> Qwen2Decoder:
    torch.manual_seed(0)
    return Qwen2Decoder(Qwen2Config(**SIZES)).eval().requires_grad_(False)


def layout_of(frames: int) -> Layout:
    groups = -(-frames // 4)
    return Layout(PREFIX, 0, [TEXT] * groups, [VISUAL] * groups)


class Embeddings:
    """The embeddings of a context. Groups are made one at a time, as when frames are streamed."""

    def __init__(self, frames: int, hidden: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.layout = layout_of(frames)
        self.prefix, self.text, self.visual, self.suffix = (
            torch.randn(rows, hidden, generator=generator) for rows in (PREFIX, TEXT, VISUAL, SUFFIX)
        )

    def groups(self) -> Iterator[tuple[Tensor, Tensor]]:
        for group in range(self.layout.groups):
            yield self.text, self.visual.roll(group, 0)

    def whole(self) -> Tensor:
        """All rows `[n, hidden]`, with the question."""
        return torch.cat([self.prefix, *(rows for group in self.groups() for rows in group), self.suffix])


def prefilled(
    decoder: Qwen2Decoder, frames: int, policy: Policy, keys: Keys = Keys.ROTATED, host: bool = False
) -> KVStore:
    """A store filled with a context of `frames` frames."""
    context = Embeddings(frames, decoder.size.hidden)
    store = KVStore(decoder, Layout(), keys, host)
    store.reserve(context.layout)
    prefill = Prefill(decoder, store, policy, kernel("sdpa", decoder.device, decoder.dtype))
    prefill.text(context.prefix)
    prefill.groups(context.groups())
    return store


def gemm_flops_per_s() -> float:
    """The speed of one dense float32 matrix product on this machine, measured now."""
    a, b = torch.randn(2, 2048, 2048)
    return 2 * 2048**3 / best_of(lambda: a @ b, 8)


def best_of(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of `repeats` runs: other processes can only slow a run down."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


class PeakMemory:
    """The highest resident memory while the block runs, less that at its start. Linux only (VmHWM)."""

    def __enter__(self) -> PeakMemory:
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._status("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        self.bytes = self._status("VmHWM") - self.before

    def _status(self, key: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) * 1024


def in_fresh_process(script: str, *arguments: object) -> dict[str, Any]:
    """Run `script --child arguments`, which prints one JSON object as its last line. Waiting threads sleep
    (OMP_WAIT_POLICY): on a busy machine, spinning threads take many times as long."""
    command = [sys.executable, script, "--child", *map(str, arguments)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *lines[1:]])
