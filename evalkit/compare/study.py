"""A comparison of two or more runs, complete, before anything is printed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from evalkit.errors import RunError
from evalkit.flat import flatten
from evalkit.report.entries import Entry, read_entry
from evalkit.report.naming import labels
from evalkit.scoring.compare import ALPHA, Comparison, compare
from evalkit.stats import holm
from evalkit.types import Prefill, Record

from .subjects import Differing, differing, warning

_UNSAID = ("model.name", "model.id", "task.name")


@dataclass(frozen=True)
class Side:
    """One run, as it is called in this comparison: a letter, and the words that tell it from the others."""

    letter: str
    words: str
    entry: Entry

    def __str__(self) -> str:
        return f"{self.letter} ({self.words})" if self.words else self.letter


@dataclass(frozen=True)
class Pair:
    """Two runs. `p_holm` is the headline's exact p adjusted for all pairs; `gained` and `lost` are ids of questions
    that the second got better or worse than the first."""

    a: Side
    b: Side
    comparison: Comparison
    p_holm: float
    gained: list[str]
    lost: list[str]

    @property
    def clear(self) -> bool:
        """More than chance explains, all pairs considered."""
        return self.comparison.significant and self.p_holm <= ALPHA


@dataclass(frozen=True)
class Study:
    sides: list[Side]
    differing: list[Differing]
    warning: str | None
    notes: list[str]
    pairs: list[Pair]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if len(self.pairs) == 1:
            pair = self.pairs[0]
            return pair.comparison.verdict(str(pair.a), str(pair.b))
        clear = [pair for pair in self.pairs if pair.clear]
        if not clear:
            return f"None of the {len(self.pairs)} pairs differs by more than chance explains, all pairs considered."
        told = [f"{_better(pair)} by {abs(pair.comparison.headline.delta):.2f}" for pair in clear]
        return f"More than chance explains, all {len(self.pairs)} pairs considered: {'; '.join(told)}."

    def to_dict(self) -> dict[str, Any]:
        """Everything, for --json."""
        return {
            "runs": [
                {"letter": s.letter, "words": s.words, "run": str(s.entry.path), "benchmark": s.entry.benchmark,
                 "split": s.entry.split, "protocol": s.entry.protocol, "coverage": s.entry.scores.coverage}
                for s in self.sides
            ],
            "differing": [asdict(d) for d in self.differing],
            "warning": self.warning,
            "notes": self.notes,
            "pairs": [
                {"a": pair.a.letter, "b": pair.b.letter, **_plain(pair.comparison), "p_holm_pairs": pair.p_holm,
                 "significant": pair.clear, "gained": pair.gained, "lost": pair.lost}
                for pair in self.pairs
            ],
            "verdict": self.verdict,
        }  # fmt: skip


def _plain(comparison: Comparison) -> dict[str, Any]:
    """For JSON, which knows no nan: kappa is one where both runs gave a single answer throughout."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in comparison.to_dict().items()}


def study(paths: Sequence[Path], plugins: tuple[str, ...] = ()) -> Study:
    """Compare all pairs of the runs. Raises RunError for folders that are no runs or runs that cannot be compared,
    DataError where a pair shares no question."""
    entries = [_entry(path, plugins) for path in _distinct(paths)]
    _check_same_benchmark(entries)
    sides = [
        Side("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i % 26] * (1 + i // 26), words, entry)
        for i, (entry, words) in enumerate(zip(entries, _words(entries), strict=True))
    ]
    records = [entry.records() for entry in entries]
    found = differing(entries)
    return Study(sides, found, warning(found), _notes(sides, records), _pairs(sides, records))


def _pairs(sides: Sequence[Side], records: Sequence[list[Record]]) -> list[Pair]:
    task = sides[0].entry.rules()
    rules, made = task.rules, []
    for i, j in combinations(range(len(sides)), 2):
        comparison = compare(records[i], records[j], rules.metrics, task.tables, rules.unit)
        made.append((sides[i], sides[j], comparison, *_changed(records[i], records[j])))
    adjusted = holm([comparison.headline.p for _, _, comparison, _, _ in made])
    return [Pair(a, b, c, p, gained, lost) for (a, b, c, gained, lost), p in zip(made, adjusted, strict=True)]


def _entry(path: Path, plugins: tuple[str, ...]) -> Entry:
    entry = read_entry(path.resolve(), plugins)
    if entry is None:
        raise RunError(f"{path} has no answers yet. Repeat the run's command to continue it.")
    entry.headline_rule()  # raises with what to do where the rules cannot be read
    return entry


def _distinct(paths: Sequence[Path]) -> Sequence[Path]:
    if len(paths) < 2:
        raise RunError("name two or more run folders: python -m evalkit.compare results/<task>/<model>/<key> ...")
    if len({path.resolve() for path in paths}) < len(paths):
        raise RunError("the same run folder is named twice: a run does not differ from itself.")
    return paths


def _check_same_benchmark(entries: Sequence[Entry]) -> None:
    names = list(dict.fromkeys(f"{entry.benchmark} ({entry.split})" for entry in entries))
    if len(names) > 1 or len({entry.miniature for entry in entries}) > 1:
        told = " and ".join(names) if len(names) > 1 else f"{names[0]} and its miniature"
        raise RunError(f"these runs answered different benchmarks: {told}. Name runs of the same benchmark and split.")


def _words(entries: Sequence[Entry]) -> list[str]:
    """What tells the runs apart: their models' names, and their settings where those are not another model's."""
    if len({entry.model for entry in entries}) == len(entries):
        return [entry.model for entry in entries]
    settings = []
    for entry in entries:
        flat = flatten({k: v for k, v in entry.identity.items() if k not in ("source", "imported")})
        settings.append({k.removeprefix("model."): v for k, v in flat.items() if k not in _UNSAID})
    several = len({entry.model for entry in entries}) > 1
    return [
        ", ".join([entry.model, *words] if several else words)
        for entry, words in zip(entries, labels(settings), strict=True)
    ]


def _notes(sides: Sequence[Side], records: Sequence[list[Record]]) -> list[str]:
    """What must be known to read the numbers, beyond settings."""
    notes = []
    for side in sides:
        notes += [f"{side.letter}: {remark}" for remark in side.entry.remarks]
        failed = side.entry.scores.n_failed
        if failed:
            notes.append(f"{side.letter}: {failed} failed questions count as wrong")
    by_id = [{record.question: record for record in run if record.status == "ok"} for run in records]
    for side, run in zip(sides[1:], by_id[1:], strict=True):
        shared = [(by_id[0][id], record) for id, record in run.items() if id in by_id[0]]
        notes += _evidence(sides[0], side, shared)
    return notes


def _evidence(a: Side, b: Side, shared: Sequence[tuple[Record, Record]]) -> list[str]:
    """Whether the questions were asked alike: the same words, the same frames."""
    asked = [(x.prompt_sha256, y.prompt_sha256) for x, y in shared if x.prompt_sha256 and y.prompt_sha256]
    of_a, of_b = a.entry.prefills(), b.entry.prefills()
    passes = [(x.video, of_a.get(x.prefill or ""), of_b.get(y.prefill or "")) for x, y in shared]
    known = [(video, x, y) for video, x, y in passes if x is not None and y is not None]
    seen = {(video, _frames(x), _frames(y)) for video, x, y in known}
    read = {(video, _file(x), _file(y)) for video, x, y in known if x.file and y.file}
    other_words = sum(x != y for x, y in asked)
    other_frames = sum(x != y for _, x, y in seen)
    other_files = sum(x != y for _, x, y in read)
    notes = []
    if other_words:
        notes.append(f"{a.letter} and {b.letter}: the prompt is another on {other_words} of {len(asked)} questions")
    if other_frames:
        notes.append(f"{a.letter} and {b.letter}: other frames were seen of {other_frames} of {len(seen)} videos")
    if other_files:
        notes.append(f"{a.letter} and {b.letter}: other files were read of {other_files} of {len(read)} videos")
    return notes


def _frames(prefill: Prefill) -> tuple[int, ...]:
    return tuple(prefill.plan.get("indices") or ())


def _file(prefill: Prefill) -> str:
    """What identifies the video's file."""
    return json.dumps(prefill.file, sort_keys=True)


def _changed(a: Sequence[Record], b: Sequence[Record]) -> tuple[list[str], list[str]]:
    before = {record.question: _score(record) for record in a}
    gained: list[str] = []
    lost: list[str] = []
    for record in b:
        old, new = before.get(record.question), _score(record)
        if old is not None and new is not None and old != new:
            (gained if new > old else lost).append(record.question)
    return gained, lost


def _score(record: Record) -> float | None:
    return record.score if record.status == "ok" else 0.0


def _better(pair: Pair) -> str:
    up = pair.comparison.headline.delta > 0
    return f"{pair.b if up else pair.a} over {pair.a if up else pair.b}"
