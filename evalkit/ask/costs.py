"""What an answer took, in one line. What was not measured is left out."""

from __future__ import annotations

from collections.abc import Iterable

from evalkit.dry_run.text import size
from evalkit.types import FramePlan, PrefillCost, Reply


def prefill_line(cost: PrefillCost | None, plan: FramePlan) -> str:
    """Of the video: frames, tokens, bytes and seconds that its questions share."""
    cost = cost or PrefillCost()
    seconds = {"video decoding": cost.video_decode_s, "vision": cost.vision_s, "prefill": cost.prefill_s}
    return _line([
        f"video: {len(plan)} frames ({plan.rule})",
        None if cost.visual_tokens is None else f"{cost.visual_tokens:,} visual tokens",
        None if cost.kv_bytes is None else f"KV cache {size(cost.kv_bytes)}",
        *(f"{name} {spent:.2f} s" for name, spent in seconds.items() if spent is not None),
    ])  # fmt: skip


def reply_line(reply: Reply) -> str:
    """Of one question: tokens, seconds and dollars."""
    seconds = [s for s in (reply.question_s, reply.generate_s) if s is not None]
    dollars = reply.details.get("dollars")
    return _line([
        None if reply.prompt_tokens is None else f"{reply.prompt_tokens:,} prompt tokens",
        None if reply.new_tokens is None else f"{reply.new_tokens:,} new",
        None if reply.first_token_s is None else f"first token after {reply.first_token_s:.2f} s",
        f"{sum(seconds):.2f} s" if seconds else None,
        None if reply.kv_bytes_used is None else f"KV used {size(reply.kv_bytes_used)}",
        None if dollars is None else f"${dollars:.4g}",
        "cut at decoding.max_new_tokens" if reply.finish == "length" else None,
    ]) or "cost not measured"  # fmt: skip


def _line(parts: Iterable[str | None]) -> str:
    return ", ".join(part for part in parts if part)
