"""The time of each stage of a prefill on a CUDA device, and its speed as a share of the device's. The model has the
released architecture and random weights.

    python benchmarks/gpu_prefill.py [--frames 256 400 600 2048 10000] [--policy chunked streaming] [--attention sdpa]
    python benchmarks/gpu_prefill.py --tiny                          # reduced sizes on any machine: checks that it runs

8.1 B parameters in bfloat16; random weights take the same time. Frames are random too and in host memory, as after
video decoding. Columns: seconds of the SigLIP tower, of the temporal module with the projector, and of the
language model; tokens prefilled a second; TFLOP/s of each half and as a share of the largest matrix product measured
here; highest device memory; seconds from a question (40 tokens) to its first token, the first question and a later
one.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from bench import SIZES, layout_of, table
from torch import Tensor, nn
from transformers import Qwen2Config, SiglipVisionConfig

from evalkit.models.shared.attention import ATTENTION, kernel
from evalkit.models.shared.generate import generate
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import Chunked, Full, Layout, Streaming
from evalkit.models.shared.prefill import Prefill
from evalkit.models.shared.qwen2 import Qwen2Decoder
from evalkit.models.videoxl2.geometry import GRID
from evalkit.models.videoxl2.pixels import pixel_values
from evalkit.models.videoxl2.sizes import SO400M, VisionSize
from evalkit.models.videoxl2.vision import Vision
from evalkit.types import Decoding

LANGUAGE = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
TINY_VISION = SO400M | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}
BATCH, QUESTION = 32, 40


def random_weights(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Give random weights to a module that was built on the meta device."""
    module.to_empty(device=device).to(dtype).eval().requires_grad_(False)
    for name, weight in module.named_parameters():
        if "norm" in name and name.endswith("weight"):
            weight.fill_(1)
        else:
            weight.normal_(std=0.02)


class Bench:
    """The vision and language models on a device, and a clock that waits for the device."""

    def __init__(self, tiny: bool, attention: str) -> None:
        cuda = torch.cuda.is_available() and not tiny
        self.device = torch.device("cuda" if cuda else "cpu")
        self.dtype = torch.bfloat16 if cuda else torch.float32
        with torch.device("meta"):
            tower = SiglipVisionConfig(**(TINY_VISION if tiny else SO400M), attn_implementation="sdpa")
            language = Qwen2Config(**(SIZES if tiny else LANGUAGE))
            self.vision, self.decoder = Vision(tower, language.hidden_size, BATCH), Qwen2Decoder(language)
        for half in (self.vision, self.decoder):
            random_weights(half, self.device, self.dtype)
        self.attention = kernel(attention, self.device, self.dtype)
        self.image_size = tower.image_size
        layers, patches = len(self.vision.tower.encoder.layers), (tower.image_size // tower.patch_size) ** 2
        self.size = VisionSize(
            tower.hidden_size,
            tower.intermediate_size,
            layers,
            patches,
            3 * tower.patch_size**2,
            GRID**2,
            language.hidden_size,
        )
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        self.wait()
        started = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] += time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def ceiling(self) -> float:
        """TFLOP/s of a large matrix product."""
        n = 8192 if self.device.type == "cuda" else 1024
        a, b = torch.randn(2, n, n, device=self.device, dtype=self.dtype)
        best = float("inf")
        for _ in range(10):
            self.wait()
            started = time.perf_counter()
            torch.mm(a, b)
            self.wait()
            best = min(best, time.perf_counter() - started)
        return 2 * n**3 / best / 1e12

    @torch.inference_mode()
    def visual(self, frames: int) -> Iterator[Tensor]:
        """The visual tokens of each group in turn."""
        side = self.image_size
        host = torch.randint(0, 256, (BATCH, side, side, 3), dtype=torch.uint8)
        for start in range(0, frames, BATCH):
            batch = host[: min(BATCH, frames - start)]
            with self.clock("tower"):
                features = self.vision.tower(pixel_values(batch, self.device).to(self.dtype))
            with self.clock("dts"):
                tokens = self.vision.pool(self.vision.project(self.vision.dts(self.vision.grid(features))))
            yield from tokens

    def run(self, frames: int, policy: Full | Chunked) -> list[object]:
        """Prefill one video and ask two questions. Returns a row of the table."""
        self.seconds.clear()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        layout, size = layout_of(frames), self.decoder.size
        store = KVStore(self.decoder, Layout())
        store.reserve(layout)
        prefill = Prefill(self.decoder, store, policy, self.attention)
        text = self.decoder.embed(torch.arange(8, device=self.device))
        with self.clock("all"):
            prefill.text(self.decoder.embed(torch.arange(14, device=self.device)))
            prefill.groups((text, tokens) for tokens in self.visual(frames))
        tower, dts = self.seconds["tower"], self.seconds["dts"]
        language = self.seconds["all"] - tower - dts
        first, later = (self.ask(store) for _ in range(2))
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else float("nan")
        see, read = self.size.frames(frames) / (tower + dts) / 1e12, size.prefill(layout, policy) / language / 1e12
        ceiling = self.ceiling()
        seconds = [f"{value:.3f}" for value in (tower, dts, language)]
        speeds = [f"{layout.length / language:.0f}"] + [f"{value:.1f} ({value / ceiling:.0%})" for value in (see, read)]
        return [frames, type(policy).__name__, *seconds, *speeds, f"{peak:.1f}", f"{first:.3f}", f"{later:.3f}"]

    def ask(self, store: KVStore) -> float:
        started = time.perf_counter()
        generate(self.decoder, self.attention, store, [list(range(QUESTION))], Decoding(max_new_tokens=1), ())
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+")
    parser.add_argument("--policy", nargs="+", choices=["chunked", "streaming", "full"], default=["chunked", "full"])
    parser.add_argument("--attention", choices=ATTENTION, default="sdpa")
    parser.add_argument("--tiny", action="store_true", help="reduced sizes, on the CPU")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --tiny runs reduced sizes on the CPU")
    bench = Bench(options.tiny, options.attention)
    policies = {"chunked": Chunked(4, 3), "streaming": Streaming(4, 1), "full": Full()}
    bench.run(16, policies["chunked"])  # warm
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    print(
        f"{name}, {bench.dtype}, {bench.attention}, torch {torch.__version__}, {bench.ceiling():.2f} TFLOP/s at most\n"
    )
    sizes = options.frames or ([16, 64] if options.tiny else [256, 400, 600, 2048, 10000])
    rows = [bench.run(frames, policies[policy]) for frames in sizes for policy in options.policy]
    head = ["frames", "policy", "tower s", "DTS s", "LM s", "tokens/s", "vision TFLOP/s", "LM TFLOP/s", "peak GiB"]
    print(table([*head, "first question s", "next s"], rows))


if __name__ == "__main__":
    main()
