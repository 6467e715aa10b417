"""What a run cost, summed from its records and prefills. What was not measured is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from evalkit.types import Prefill, Record

PREFILL_STAGES = ("video_decode", "vision", "prefill")
QUESTION_STAGES = ("question", "generate")


def efficiency(records: Sequence[Record], passes: Sequence[Prefill]) -> dict[str, Any]:
    """Totals and means over the questions that were answered, and over `passes`, all prefills of the run. Seconds are
    wall-clock seconds of their stage; bytes are peaks or means as named. First and later questions of a video are kept
    apart: only the first waits for the prefill."""
    answered = [r for r in records if r.reply is not None]
    prefills = {prefill.id: prefill for prefill in passes}
    firsts = {r.prefill or "": r for r in reversed(answered) if r.prefill in prefills}
    used = [prefill for prefill in passes if prefill.id in firsts]
    later = [r for r in answered if firsts.get(r.prefill or "") is not r]
    new_tokens, generate_s = _total(r.tokens.get("new") for r in answered), _stage(answered, "generate")
    out: dict[str, Any] = {
        "questions": len(answered),
        "videos": len({r.video for r in answered}),
        "prefills": sum(bool(p.seconds) for p in used),
    }
    out |= {f"{stage}_s": _stage(used, stage) for stage in PREFILL_STAGES}
    out |= {f"{stage}_s": _stage(answered, stage) for stage in QUESTION_STAGES}
    out["ttft_first_s"] = _mean(_first_ttft(record, prefills[id]) for id, record in firsts.items())
    out["ttft_later_s"] = _mean(r.ttft for r in later)
    out["tokens_per_s"] = new_tokens / generate_s if new_tokens is not None and generate_s else None
    out["frames"] = _mean(p.frames for p in used)
    out["visual_tokens"] = _mean(p.tokens.get("visual") for p in used)
    out["prompt_tokens"] = _mean(r.tokens.get("prompt") for r in answered)
    out["new_tokens"] = new_tokens
    out["attention_density"] = _mean(p.attention_density for p in used)
    flops = [_total(p.flops for p in used), _total(r.flops for r in answered)]
    out["flops"] = _total(flops)
    dense = {p.id: p.kv_bytes for p in used}
    out["kv_bytes_dense"] = _mean(dense.get(r.prefill or "") for r in answered)
    out["kv_bytes_used"] = _mean(r.kv_bytes_used or dense.get(r.prefill or "") for r in answered)
    out["dollars"] = _total(r.details.get("dollars") for r in answered)
    out["peak_device_bytes"] = max((p.peak_memory_bytes for p in used if p.peak_memory_bytes), default=None)
    out["peak_host_bytes"] = max((r.host_memory_bytes for r in answered if r.host_memory_bytes), default=None)
    return out


def _first_ttft(record: Record, prefill: Prefill) -> float | None:
    """From the video's arrival: vision and prefill come before the first question can be answered."""
    if record.ttft is None:
        return None
    return record.ttft + prefill.seconds.get("vision", 0.0) + prefill.seconds.get("prefill", 0.0)


def _stage(lines: Iterable[Record | Prefill], stage: str) -> float | None:
    return _total(line.seconds.get(stage) for line in lines)


def _total(values: Iterable[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
