"""Attention density of chunked prefill (computed query-key pairs as a share of all causal pairs), and the operations
that this saves in the prefill of the released model.

    python benchmarks/attention_density.py

The density is computed in closed form, which is checked against counts of small masks. The rows are the settings of the
published evaluation (github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval) and two longer videos. A question of 150
tokens behind the video is counted in the density, as its rows are dense.
"""

from __future__ import annotations

from bench import table

from evalkit.models.shared.cost import LanguageSize, attention_density, causal_pairs
from evalkit.models.shared.layout import Chunked, Full, Layout, Streaming
from evalkit.models.videoxl2.sizes import VisionSize

LANGUAGE = LanguageSize(3584, 18944, 28, 28, 4, 128, 152064)
VISION = VisionSize(1152, 4304, 26, 729, 588, 576, 3584)
QUESTION = 150
SETTINGS = [
    ("MLVU", 256, Chunked(4, 3)),
    ("Video-MME", 300, Chunked(4, 3)),
    ("Video-MME", 400, Chunked(4, 3)),
    ("LongVideoBench", 400, Chunked(6, 5)),
    ("LVBench", 600, Chunked(4, 11)),
    ("", 2048, Chunked(4, 3)),
    ("", 10000, Chunked(4, 3)),
    ("released", 1300, Streaming(4, 1)),
    ("", 10000, Streaming(4, 1)),
]


def layout_of(frames: int) -> Layout:
    """Groups of 144 visual tokens, one every four seconds, behind timestamps of Qwen's tokens."""
    times = [4.0 * group for group in range(frames // 4)]
    return Layout(14, 0, [4 + len(str(time)) for time in times], [144] * len(times))


def counted(layout: Layout, policy: Chunked) -> float:
    """The density by counting all pairs."""
    chunk, visual = [-1] * layout.prefix, [False] * layout.prefix
    for group, (texts, visuals) in enumerate(zip(layout.text, layout.visual, strict=True)):
        chunk += [group // policy.chunk_groups] * (texts + visuals)
        visual += [False] * texts + [True] * visuals
    windowed = visual if policy.text_sees_all else [at >= 0 for at in chunk]
    seen = sum(
        not windowed[row] or not visual[column] or chunk[row] - chunk[column] <= policy.previous_chunks
        for row in range(len(chunk))
        for column in range(row + 1)
    )
    return seen / causal_pairs(len(chunk))


def main() -> None:
    for policy in (Chunked(1, 0), Chunked(2, 1), Chunked(3, 2), Streaming(2, 1)):
        small = Layout(5, 0, [7, 8, 8, 9, 8, 7, 9], [12] * 7)
        assert attention_density(small, policy) == counted(small, policy), policy
    rows = []
    for name, frames, policy in SETTINGS:
        layout = layout_of(frames)
        dense, sparse = LANGUAGE.prefill(layout, Full()), LANGUAGE.prefill(layout, policy)
        density = attention_density(layout, policy, QUESTION)
        tera = f"{VISION.frames(frames) / 1e12:.0f}", f"{dense / 1e12:.0f}", f"{sparse / 1e12:.0f}"
        kv = f"{LANGUAGE.kv_bytes(layout.length, 2) / 2**30:.2f}"
        rows.append((name, frames, policy, layout.length, f"{density:.3f}", *tera, f"{1 - sparse / dense:.0%}", kv))
    head = (
        "benchmark",
        "frames",
        "policy",
        "tokens",
        "density",
        "vision TFLOP",
        "LM full",
        "LM chunked",
        "saved",
        "KV GiB",
    )
    print(table(head, rows))


if __name__ == "__main__":
    main()
