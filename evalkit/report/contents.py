"""What the page of a run holds of a video and of a question, as plain JSON values: short lists for the list of all
questions, objects for what is shown of one video. Numbers are formatted here; the page's script only places texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.model import Description
from evalkit.types import Prefill, Record

from . import numbers
from .questions import gist, mark, shown
from .timeline import stretches, timeline

CODES = {"right": "1", "partly": "p", "wrong": "0", "unread": "u", "failed": "f", "waiting": "w", "dropped": "d"}
"""A mark in one character; `-` stands for a question that another run was not asked."""

_STAGES = {"video_decode": "video decoding", "generate": "token generation"}
_SHORT = 110


def row(record: Record, there: str) -> list[Any]:
    """A question in the list: id, mark, question, slices, extracted, gold, marks in the other runs."""
    title = gist(record, _SHORT)
    labels = [", ".join(labels) for labels in record.groups.values()]
    return [record.question, CODES[mark(record)], title, labels, shown(record.extracted), shown(record.gold), there]


def video(prefill: Prefill | None, strip: str | None) -> dict[str, Any]:
    """The frames that were read: a sentence, and the timeline. `strip`: the address of its thumbnails."""
    drawn = timeline(prefill)
    if drawn is None or prefill is None:
        return {"said": "No frames of this video were read."}
    visual = f"; {numbers.count(prefill.tokens['visual'])} visual tokens" if "visual" in prefill.tokens else ""
    rule, decoder = prefill.plan.get("rule", ""), prefill.decoder or "an unnamed decoder"
    frames, length = numbers.count(drawn.frames), numbers.clock(drawn.length_s)
    said = f"{frames} frames of {length}, rule {rule}, read by {decoder}{visual}."
    return {"said": said, "frames": drawn.frames, "ticks": drawn.ticks, "labels": drawn.labels, "strip": strip}


def question(
    record: Record, prefill: Prefill | None, described: Description, others: list[list[Any]]
) -> dict[str, Any]:
    """A question with its prompt, reply and costs; keys without a value are left out. `others`: (number of the run,
    mark, extracted value) of the other runs that were asked."""
    spans = [[s.x, s.width, s.kind, s.title] for s in stretches(prefill, described.spans)]
    values = {
        "id": record.question,
        "mark": CODES[mark(record)],
        "title": gist(record, 300),
        "groups": [f"{name}: {', '.join(labels)}" for name, labels in record.groups.items()],
        "error": [record.error.get("kind", ""), record.error.get("message", "")] if record.error else None,
        "spans": spans,
        "lines": described.lines,
        "prompt": record.prompt,
        "reply": None if record.reply is None else record.reply or "(empty)",
        "facts": _facts(record, prefill),
        "others": others,
    }
    return {name: value for name, value in values.items() if value not in (None, [], ())}


def _facts(record: Record, prefill: Prefill | None) -> list[list[str]]:
    """(name, value, addition) of what was read, scored and spent."""
    facts = [["read as", shown(record.extracted), f"by {record.rule}" if record.rule else ""]]
    facts.append(["gold", shown(record.gold), ""])
    if record.score is not None:
        facts.append(["score", f"{record.score:g}", " ".join(f"{k} {v:.3g}" for k, v in record.values.items())])
    if record.note:
        facts.append(["note", record.note, ""])
    facts += [["remark", remark, ""] for remark in record.remarks]
    if record.seconds:
        facts.append(["time", _seconds(record.seconds), ""])
    if record.ttft is not None:
        facts.append(["first token", f"{numbers.seconds(record.ttft)} after the question", ""])
    if record.tokens:
        counts = ", ".join(f"{name} {numbers.count(number)}" for name, number in record.tokens.items())
        facts.append(["tokens", counts + (", cut off" if record.finish == "length" else ""), ""])
    if prefill is not None and prefill.seconds:
        facts.append(["prefill", _seconds(prefill.seconds), ""])
    if prefill is not None and prefill.kv_bytes:
        used = numbers.size(record.kv_bytes_used or prefill.kv_bytes)
        facts.append(["KV cache", f"{used} used of {numbers.size(prefill.kv_bytes)}", ""])
    return facts


def _seconds(spent: Mapping[str, float]) -> str:
    return ", ".join(f"{_STAGES.get(stage, stage)} {numbers.seconds(value)}" for stage, value in spent.items())
