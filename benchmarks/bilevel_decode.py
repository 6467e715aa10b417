"""Bi-level decode: the keys and values that a question reads, and the time of a generated token with them.

    OMP_NUM_THREADS=2 python benchmarks/bilevel_decode.py [--frames 2048] [--tokens 24]

Small random model, chunks of 4 groups. KV rows follow dense groups * (144 + T) + other groups * (144 / r + T) + prefix;
this is checked for each row. `assemble` copies the keys and values of a question, `question` computes its 40 tokens.
Times are the fastest of the rounds; each round measures all settings in turn.
"""

from __future__ import annotations

import argparse
import time

import torch
from bench import PREFIX, SUFFIX, TEXT, VISUAL, layout_of, prefilled, small_model, table

from evalkit.models.shared.attention import kernel
from evalkit.models.shared.bilevel import assemble_bilevel, pool
from evalkit.models.shared.generate import Memory, generate
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.layout import Chunked
from evalkit.types import Decoding

CHUNK_GROUPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    decoder = small_model()
    attention = kernel("sdpa", decoder.device, decoder.dtype)
    layout, question = layout_of(options.frames), list(range(SUFFIX))
    chunks = layout.chunks(CHUNK_GROUPS)
    dense_store = prefilled(decoder, options.frames, Chunked(4, 3))
    store = prefilled(decoder, options.frames, Chunked(4, 3), Keys.UNROTATED)
    settings = [(None, len(chunks))] + [
        (ratio, count) for ratio in (4, 16, 48) for count in (len(chunks) // 2, len(chunks) // 8, 2)
    ]
    pooled = {ratio: pool(store, ratio) for ratio, _ in settings if ratio}
    best: dict[tuple[int | None, int], list[float]] = {}
    sizes: dict[tuple[int | None, int], int] = {}
    for _ in range(options.rounds):
        for ratio, count in settings:
            started = time.perf_counter()
            memory: Memory = dense_store
            if ratio:
                inner = [1 + i * (len(chunks) - 2) // max(1, count - 2) for i in range(count - 2)]
                groups = [group for chunk in {0, len(chunks) - 1, *inner} for group in chunks[chunk]]
                memory = assemble_bilevel(store, pooled[ratio], groups)
                kept = len(groups) * (VISUAL + TEXT) + (layout.groups - len(groups)) * (VISUAL // ratio + TEXT) + PREFIX
                assert memory.length == kept and memory.nbytes == decoder.size.kv_bytes(kept, 4)
            assembled = time.perf_counter() - started
            (answer,) = generate(decoder, attention, memory, [question], Decoding(options.tokens), ())
            now = [assembled, answer.question_s, answer.generate_s / (options.tokens - 1)]
            best[ratio, count] = [min(pair) for pair in zip(now, best.get((ratio, count), now), strict=True)]
            sizes[ratio, count] = memory.length
    dense_rows, dense_token = sizes[settings[0]], best[settings[0]][2]
    rows = [
        (
            ratio or "-",
            f"{count} of {len(chunks)}",
            f"{decoder.size.kv_bytes(sizes[ratio, count], 4) / 2**20:.1f}",
            f"{sizes[ratio, count] / dense_rows:.3f}",
            f"{token / dense_token:.3f}",
            *(f"{1000 * seconds:.2f}" for seconds in (token, ask, assemble)),
        )
        for (ratio, count), (assemble, ask, token) in best.items()
    ]
    print(f"{options.frames} frames, {layout.length} tokens, {torch.get_num_threads()} threads\n")
    head = (
        "compression",
        "dense chunks",
        "KV MiB",
        "of dense KV",
        "of dense time",
        "ms a token",
        "ms question",
        "ms assemble",
    )
    print(table(head, rows))


if __name__ == "__main__":
    main()
