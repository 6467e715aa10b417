"""`Reply.details` of Video-XL-2: what bi-level decode kept dense for a question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.model import Description, FrameSpan
from evalkit.types import FramePlan

from ..shared.relevance import Selection


def details_of(selection: Selection, group_frames: int) -> dict[str, Any]:
    """`dense_chunks`: the chunks that stay dense, counted from 0 (None: all); each has `chunk_frames` frames. In the
    others `compression` visual tokens are averaged into one."""
    dense = None if selection.dense is None else list(selection.dense)
    frames = group_frames * selection.chunk_groups
    return {"dense_chunks": dense, "chunk_frames": frames, "compression": selection.compression}


def describe(details: Mapping[str, Any], plan: FramePlan) -> Description:
    """A sentence on the chunks, and a span for each."""
    if "dense_chunks" not in details:
        return Description()
    if details["dense_chunks"] is None:
        return Description(("bi-level decode: all chunks dense",))
    frames, dense = int(details["chunk_frames"]), set(details["dense_chunks"])
    count = -(-len(plan) // frames)
    line = f"bi-level decode: {len(dense)} of {count} chunks dense, {frames} frames each"
    if details.get("compression"):  # evalkit 0.1 did not store it
        line += f"; in the others {details['compression']} visual tokens averaged into one"
    spans = tuple(
        FrameSpan(
            first=chunk * frames,
            last=min((chunk + 1) * frames, len(plan)) - 1,
            kind="dense" if chunk in dense else "pooled",
            label=f"chunk {chunk}",
        )
        for chunk in range(count)
    )
    return Description((line,), spans)
