"""What a run cost, summed from its records.

The cost of a prefill stands in the record of every question of its video; here each prefill is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from evalkit.types import Record

_PREFILL = ("video_decode", "vision", "prefill")
_QUESTION = ("question", "generate")


def efficiency(records: Sequence[Record]) -> dict[str, Any]:
    """Totals and means over the answered questions. Seconds are wall-clock of their stage; bytes are peaks or means as
    named. First and later questions of a video are kept apart: only the first waits for the prefill."""
    answered = [r for r in records if r.status == "ok"]
    prefills: dict[tuple[object, ...], Record] = {}
    for record in answered:
        prefills.setdefault(_prefill_of(record), record)
    firsts = list(prefills.values())
    first_ids = {r.question for r in firsts}
    generate_s = sum(r.seconds.get("generate", 0.0) for r in answered)
    new_tokens = sum(r.tokens.get("new", 0) for r in answered)
    out: dict[str, Any] = {
        "questions": len(answered),
        "videos": len({r.video for r in answered}),
        "prefills": len(firsts),
    }
    out |= {f"{stage}_s": sum(r.seconds.get(stage, 0.0) for r in firsts) for stage in _PREFILL}
    out |= {f"{stage}_s": sum(r.seconds.get(stage, 0.0) for r in answered) for stage in _QUESTION}
    out["ttft_first_s"] = _mean(firsts, _first_ttft)
    out["ttft_later_s"] = _mean([r for r in answered if r.question not in first_ids], lambda r: r.ttft)
    out["tokens_per_s"] = new_tokens / generate_s if generate_s else None
    out["frames"] = _mean(firsts, lambda r: r.frames)
    out["visual_tokens"] = _mean(firsts, lambda r: r.tokens.get("visual"))
    out["prompt_tokens"] = _mean(answered, lambda r: r.tokens.get("prompt"))
    out["new_tokens"] = new_tokens
    out["attention_density"] = _mean(firsts, lambda r: r.attention_density)
    out["flops"] = _sum(firsts, "prefill") + _sum(answered, "question") or None
    out["kv_bytes_dense"] = _mean(answered, lambda r: r.kv_bytes.get("dense"))
    out["kv_bytes_used"] = _mean(answered, lambda r: r.kv_bytes.get("used"))
    out["peak_device_bytes"] = max((r.peak_memory.get("device", 0) for r in answered), default=0) or None
    out["peak_host_bytes"] = max((r.peak_memory.get("host", 0) for r in answered), default=0) or None
    return out


def _prefill_of(record: Record) -> tuple[object, ...]:
    """Records of one prefill share its measured seconds to the microsecond; a second prefill of the same video (after
    a crash, say) does not."""
    return (record.video, *(record.seconds.get(stage) for stage in _PREFILL))


def _first_ttft(record: Record) -> float | None:
    """From the video's arrival: vision and prefill come before the first question can be answered."""
    if record.ttft is None:
        return None
    return record.ttft + record.seconds.get("vision", 0.0) + record.seconds.get("prefill", 0.0)


def _sum(records: Sequence[Record], stage: str) -> float:
    return sum(r.flops.get(stage, 0.0) for r in records)


def _mean(records: Sequence[Record], value: Callable[[Record], float | None]) -> float | None:
    values = [v for r in records if (v := value(r)) is not None]
    return fmean(values) if values else None
