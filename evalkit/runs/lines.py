"""The lines of records.jsonl and prefills.jsonl, and those of older formats.

A line is a JSON object. A field that was not measured, or has its default value, is left out. Format 1 (evalkit 0.1)
had no prefills.jsonl: each record carried the frames and the cost of its prefill; such lines are split when they are
read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from evalkit.errors import RunError
from evalkit.types import Prefill, Record

FORMAT = 2
"""Version of the files of a run folder, in its manifest and summary."""

L = TypeVar("L", Record, Prefill)
V = TypeVar("V")
Problem = Callable[[str], None]


def to_line(line: Record | Prefill) -> str:
    """One line of JSON, with the line break."""
    values = {f.name: value for f in fields(line) if _kept(f, value := getattr(line, f.name))}
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can hold it
        text = json.dumps(values, allow_nan=False)
    return text + "\n"


def _kept(f: Field[Any], value: Any) -> bool:
    if f.default is not MISSING:
        return value is not f.default and value != f.default
    return f.default_factory is MISSING or bool(value)


def read_lines(path: Path, problem: Problem | None = None) -> tuple[list[Record], list[Prefill], int]:
    """The records of a file, the prefills that format 1 kept in them, and the number of bytes that were read. A last
    line that a crash cut short is left out.

    A line in the middle that is not a record is reported to `problem` and left out; without `problem`, RunError.
    """
    records: list[Record] = []
    prefills: dict[str, Prefill] = {}
    good = 0
    for line in scan_records(path, problem):
        good = line.end
        if line.value is not None:
            record, prefill = line.value
            records.append(record)
            if prefill is not None:
                prefills.setdefault(prefill.id, prefill)
    return records, list(prefills.values()), good


def read_prefills(path: Path, problem: Problem | None = None) -> tuple[list[Prefill], int]:
    """The prefills of a file and the number of bytes that were read; as `read_lines`."""
    lines = list(scan_prefills(path, problem))
    return [line.value for line in lines if line.value is not None], lines[-1].end if lines else 0


@dataclass(frozen=True, slots=True)
class Line(Generic[V]):
    """One line of a file, from the byte `start` to before `end`. `value`: None for a line that is damaged."""

    start: int
    end: int
    value: V | None


def scan_records(path: Path, problem: Problem | None = None) -> Iterator[Line[tuple[Record, Prefill | None]]]:
    """The lines of a records.jsonl one after another, as `read_lines` treats them."""
    return _scan(path, "a record", read_record, problem)


def scan_prefills(path: Path, problem: Problem | None = None) -> Iterator[Line[Prefill]]:
    """The lines of a prefills.jsonl one after another; none where there is no such file."""
    return _scan(path, "a prefill", read_prefill, problem) if path.is_file() else iter(())


def read_record(line: bytes) -> tuple[Record, Prefill | None]:
    """A record, and the prefill that its line holds in format 1. Raises an error of `_DAMAGE`."""
    values, prefill = read_object(line), None
    if values.keys() & _FORMAT_1:
        values, prefill = _from_format_1(values)
    return _checked(Record, values), prefill


def read_prefill(line: bytes) -> Prefill:
    """Raises an error of `_DAMAGE`."""
    return _checked(Prefill, read_object(line))


_DAMAGE = (ValueError, TypeError, OverflowError, RecursionError)


def _scan(path: Path, what: str, read: Callable[[bytes], V], problem: Problem | None) -> Iterator[Line[V]]:
    start = 0
    for number, line, last in _numbered(path):
        value = None
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it has no line break")
            value = read(line)
        except _DAMAGE as error:
            if last:
                return
            _report(path, number, what, error, problem)
        yield Line(start, start + len(line), value)
        start += len(line)


def _numbered(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line, whether it is the last) of each line."""
    with path.open("rb") as file:
        line, number = file.readline(), 0
        while line:
            number += 1
            following = file.readline()
            yield number, line, not following
            line = following


def _report(path: Path, number: int, what: str, error: BaseException, problem: Problem | None) -> None:
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    text = f"{path}, line {number} is not {what} ({reason}): the file was damaged."
    if problem is None:
        raise RunError(f"{text} Remove that line to go on without it; its question will be asked again.") from None
    problem(text)


def read_object(line: bytes) -> dict[str, Any]:
    """A JSON object without NaN, infinite numbers by name, and halves of surrogate pairs. Raises ValueError for
    anything else, RecursionError for deep nesting."""
    values = json.loads(line, parse_constant=_no_constant)
    if not isinstance(values, dict):
        raise ValueError(f"it is a {type(values).__name__}, not an object")
    return values if b"\\u" not in line else _without_surrogates(values)


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _without_surrogates(value: Any) -> Any:
    """Halves of surrogate pairs become U+FFFD: no file or page could hold them."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(v) for v in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_groups(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_texts, value.values()))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        (
            *("id", "run", "task", "split", "protocol", "model", "video", "question", "unit", "cluster", "status"),
            *("reply", "rule", "note", "question_sha256", "prefill", "prompt", "prompt_sha256", "finish", "worker"),
            *("started", "decoder", "context"),
        ),
        (_is_text, "text"),
    ),
    **dict.fromkeys(
        (
            *("score", "ttft", "kv_bytes_used", "flops", "host_memory_bytes", "frames", "kv_bytes"),
            *("attention_density", "peak_memory_bytes"),
        ),
        (_is_number, "a number"),
    ),
    **dict.fromkeys(("values", "tokens", "seconds"), (_is_numbers, "numbers by name")),
    **dict.fromkeys(("remarks",), (_is_texts, "a list of texts")),
    **dict.fromkeys(("groups",), (_is_groups, "lists of texts by name")),
    **dict.fromkeys(("error", "details", "plan"), (_is_object, "an object")),
    "valid": (lambda value: isinstance(value, bool), "true or false"),
}
"""What the values of a line must be, by field; `gold`, `extracted` and `file` can be anything. null is left out."""

_FIELDS = {
    cls: ([f.name for f in fields(cls)], [f.name for f in fields(cls) if f.default is f.default_factory is MISSING])
    for cls in (Record, Prefill)
}
"""Names of all fields, and of those without a default."""

_STATUS = ("ok", "failed", "ungraded")


def _checked(cls: type[L], values: Mapping[str, Any]) -> L:
    """The line as an object. Unknown fields, of a newer evalkit, are left out. Raises ValueError or TypeError for
    missing fields and wrong types."""
    names, required = _FIELDS[cls]
    known = {name: values[name] for name in names if values.get(name) is not None}
    for name, value in known.items():
        is_kind, kind = _KINDS.get(name, (None, ""))
        if is_kind is not None and not is_kind(value):
            raise ValueError(f"{name} is {value!r:.60}, not {kind}")
    if cls is Record:
        known.setdefault("gold", None)  # hidden
    if missing := [name for name in required if name not in known]:
        raise ValueError(f"missing: {', '.join(missing)}")
    made = cls(**known)
    if isinstance(made, Record) and made.status not in _STATUS:
        raise ValueError(f"status is {made.status!r:.60}, not one of {', '.join(_STATUS)}")
    return made


# Format 1: each record carried its prefill -------------------------------------------------------------------------

_FORMAT_1 = {"sampling", "peak_memory", "attention_density", "dense_chunks", "chunk_frames", "frames"}
"""Fields that only records of format 1 have."""
_PREFILL_STAGES = ("video_decode", "vision", "prefill")


def _from_format_1(values: Mapping[str, Any]) -> tuple[dict[str, Any], Prefill | None]:
    """A record of format 1 converted to the present format, and its prefill. Zeros that meant "not measured" are left
    out."""
    new = {k: v for k, v in values.items() if k not in _FORMAT_1 and v is not None}
    sampling, peak = values.get("sampling"), values.get("peak_memory") or {}
    seconds, tokens = values.get("seconds") or {}, values.get("tokens") or {}
    kv_bytes, flops = values.get("kv_bytes") or {}, values.get("flops") or {}
    new.pop("kv_bytes", None)
    new["seconds"] = {k: v for k, v in seconds.items() if k not in _PREFILL_STAGES}
    new["tokens"] = {k: v for k, v in tokens.items() if k in ("prompt", "new")}
    new["kv_bytes_used"] = kv_bytes.get("used") or None
    new["flops"] = flops.get("question")
    new["host_memory_bytes"] = peak.get("host")
    if values.get("chunk_frames"):
        new["details"] = {"dense_chunks": values.get("dense_chunks"), "chunk_frames": values["chunk_frames"]}
    if not sampling:
        return new, None
    spent = {stage: seconds[stage] for stage in _PREFILL_STAGES if seconds.get(stage)}
    content = json.dumps([values.get("video"), spent, sampling], sort_keys=True)
    prefill = Prefill(
        id=sha256(content.encode()).hexdigest()[:16],
        video=str(values.get("video")),
        plan={k: v for k, v in sampling.items() if k not in ("decoder", "file")},
        decoder=sampling.get("decoder") or "",
        file=sampling.get("file"),
        frames=values.get("frames"),
        tokens={k: tokens[k] for k in ("visual", "context") if tokens.get(k)},
        seconds=spent,
        kv_bytes=kv_bytes.get("dense") or None,
        attention_density=values.get("attention_density"),
        flops=flops.get("prefill"),
        peak_memory_bytes=peak.get("device"),
        worker=values.get("worker") or "",
        started=values.get("started") or "",
    )
    new["prefill"] = prefill.id
    return new, prefill
