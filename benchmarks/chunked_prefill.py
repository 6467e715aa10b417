"""Chunked prefill compared with other kinds of prefill: time and peak memory on a small random model.

    OMP_NUM_THREADS=2 python benchmarks/chunked_prefill.py [--frames 512 2048] [--rounds 3]

chunked        evalkit's prefill with chunks of 4 groups, of which 3 previous ones are visible
full           the same code with full attention
causal at once one pass over the whole sequence, torch's fused causal attention in every layer
mask at once   one pass under a dense mask of the chunk rule, as in the authors' code (up to 512 frames only)

"dense product" is the time that the multiply-adds of a row take in one large matrix product, measured in the same
process; `mask at once` computes all pairs and masks some. The first two skip the part of the last layer after its keys
and values, whose result is not used: 1/4 of this model, 1/28 of the released one; the row `full` shows the gain of this
alone. Memory: the peak of the call with the KV cache, without weights and embeddings. Time: the fastest of all rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from bench import (
    SUFFIX,
    Embeddings,
    PeakMemory,
    best_of,
    gemm_flops_per_s,
    in_fresh_process,
    layout_of,
    prefilled,
    small_model,
    table,
)
from torch import Tensor
from torch.nn import functional as F

from evalkit.models.shared.cost import attention_density, causal_pairs
from evalkit.models.shared.layout import Chunked, Full, Layout, Policy
from evalkit.models.shared.qwen2 import Qwen2Decoder

CHUNKED = Chunked(4, 3)
SIDES = ("chunked", "full", "causal at once", "mask at once")
MASK_FRAMES = 512
"""With 2,048 frames the dense mask would take 24 GB."""


def chunk_mask(layout: Layout, policy: Chunked, suffix: int) -> Tensor:
    """Additive mask `[1, 1, n, n]` of the chunk rule."""
    n = layout.length + suffix
    chunk = torch.full((n,), -1)
    chunk[torch.tensor(layout.visual_positions())] = torch.tensor(
        [group // policy.chunk_groups for group, count in enumerate(layout.visual) for _ in range(count)]
    )
    text = chunk < 0
    back = chunk[:, None] - chunk[None, :]
    allowed = (text[:, None] | text[None, :] | ((back >= 0) & (back <= policy.previous_chunks))).tril_()
    return torch.zeros(1, 1, n, n).masked_fill_(~allowed, -torch.inf)


def at_once(decoder: Qwen2Decoder, embeds: Tensor, mask: Callable[[], Tensor] | None) -> Tensor:
    """All layers over the whole sequence, keys and values kept, and the last logits."""
    cache = []
    bias = mask() if mask else None

    def see(layer: int, q: Tensor, unrotated: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.append((k, v))
        keys, values = (x.repeat_interleave(q.shape[0] // x.shape[0], 0)[None] for x in (k, v))
        return F.scaled_dot_product_attention(q[None], keys, values, attn_mask=bias, is_causal=bias is None)[0]

    with torch.inference_mode():
        hidden = decoder.run(embeds, torch.arange(len(embeds)), see)
        return decoder.logits(hidden[-1])


def work_of(side: str, decoder: Qwen2Decoder, frames: int) -> Callable[[], object]:
    if side in ("chunked", "full"):
        policy: Policy = CHUNKED if side == "chunked" else Full()
        return lambda: prefilled(decoder, frames, policy)
    embeds, layout = Embeddings(frames, decoder.size.hidden).whole(), layout_of(frames)
    mask = (lambda: chunk_mask(layout, CHUNKED, SUFFIX)) if side == "mask at once" else None
    return lambda: at_once(decoder, embeds, mask)


def flops_of(side: str, decoder: Qwen2Decoder, frames: int) -> int:
    """Multiplications and additions that the side carries out."""
    layout, size = layout_of(frames), decoder.size
    if side in ("chunked", "full"):
        return size.prefill(layout, CHUNKED if side == "chunked" else Full())
    n = layout.length + SUFFIX
    pairs = n * n if side == "mask at once" else causal_pairs(n)
    return size.layers * (n * size.row + pairs * size.pair)


def measure(side: str, frames: int) -> None:
    """Measure one side in this process. Prints seconds, peak memory and the time of a dense product as JSON."""
    decoder = small_model()
    work_of(side, decoder, 16)()
    work = work_of(side, decoder, frames)
    with PeakMemory() as peak:
        seconds = best_of(work, 1)
    if side != "mask at once" and frames <= 512:
        seconds = min(seconds, best_of(work, 2))
    product = flops_of(side, decoder, frames) / gemm_flops_per_s()
    print(json.dumps({"seconds": seconds, "bytes": peak.bytes, "product": product}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "FRAMES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child[0], int(options.child[1]))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    rows = []
    for frames in options.frames:
        sides = [side for side in SIDES if side != "mask at once" or frames <= MASK_FRAMES]
        found: dict[str, dict[str, float]] = {}
        for _ in range(options.rounds):
            for side in sides:
                now = in_fresh_process(__file__, side, frames)
                before = found.get(side, now)
                found[side] = {key: min(now[key], before[key]) for key in now}
        dense = found["causal at once"]["seconds"]
        for side in sides:
            seconds, memory, product = (found[side][key] for key in ("seconds", "bytes", "product"))
            rows.append(
                (
                    frames,
                    side,
                    f"{seconds:.2f}",
                    f"{dense / seconds:.2f}x",
                    f"{seconds / product:.2f}x",
                    f"{memory / 2**20:.0f}",
                )
            )
        layout = layout_of(frames)
        print(f"{frames} frames: {layout.length} tokens, density {attention_density(layout, CHUNKED):.3f}")
    head = ("frames", "prefill", "seconds", "faster than causal at once", "of its dense product", "peak MiB")
    print("\n" + table(head, rows))


if __name__ == "__main__":
    main()
