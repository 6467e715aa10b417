"""The comparison of two or more runs, as data: `show.py` prints it, `--json` writes it."""

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
from evalkit.scoring.compare import ALPHA, Comparison, Delta, compare
from evalkit.stats import holm, holm_levels
from evalkit.types import Prefill, Record

from .subjects import Differing, differing, warning

_NOT_SHOWN = ("model.name", "model.id", "task.name")


@dataclass(frozen=True)
class ComparedRun:
    """One run. `letter` is its name in this comparison, `settings` what distinguishes it from the other runs."""

    letter: str
    settings: str
    entry: Entry

    def __str__(self) -> str:
        return f"{self.letter} ({self.settings})" if self.settings else self.letter


@dataclass(frozen=True)
class Pair:
    """Two runs.

    `p_holm`: the headline's p adjusted for all pairs; None on a single video. `level`: that of the interval which
    leaves out 0 exactly where `p_holm` is at most 0.05.
    `gained`, `lost`: ids of the questions with a higher and with a lower score in the second run.
    """

    a: ComparedRun
    b: ComparedRun
    comparison: Comparison
    p_holm: float | None
    level: float
    gained: list[str]
    lost: list[str]

    @property
    def difference(self) -> Delta:
        """The headline, with the interval that belongs to `p_holm`."""
        return self.comparison.headline.at_level(self.level)

    @property
    def significant(self) -> bool:
        """The headlines differ by more than chance explains, all pairs considered."""
        return self.p_holm is not None and self.p_holm <= ALPHA


@dataclass(frozen=True)
class RunComparison:
    """Two or more runs and all pairs of them. `warning`: one sentence if more than one thing differs between them."""

    runs: list[ComparedRun]
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
        significant = [pair for pair in self.pairs if pair.significant]
        if not significant:
            return f"None of the {len(self.pairs)} pairs differs by more than chance explains, all pairs considered."
        differences = [f"{_better(pair)} by {abs(pair.comparison.headline.delta):.2f}" for pair in significant]
        return f"More than chance explains, all {len(self.pairs)} pairs considered: {'; '.join(differences)}."

    def to_dict(self) -> dict[str, Any]:
        """Everything, for --json."""
        return {
            "runs": [
                {"letter": run.letter, "settings": run.settings, "run": str(run.entry.path),
                 "benchmark": run.entry.benchmark, "split": run.entry.split, "protocol": run.entry.protocol,
                 "coverage": run.entry.scores.coverage}
                for run in self.runs
            ],
            "differing": [asdict(d) for d in self.differing],
            "warning": self.warning,
            "notes": self.notes,
            "pairs": [
                {"a": pair.a.letter, "b": pair.b.letter, **_without_nan(pair.comparison), "p_holm_pairs": pair.p_holm,
                 "low_pairs": pair.difference.low, "high_pairs": pair.difference.high,
                 "significant": pair.significant, "gained": pair.gained, "lost": pair.lost}
                for pair in self.pairs
            ],
            "verdict": self.verdict,
        }  # fmt: skip


def _without_nan(comparison: Comparison) -> dict[str, Any]:
    """JSON has no nan, which kappa is if both runs gave one answer throughout: it becomes null."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in comparison.to_dict().items()}


def compare_runs(paths: Sequence[Path], plugins: tuple[str, ...] = ()) -> RunComparison:
    """Compare all pairs of the runs in these folders. Raises RunError for folders that are no runs or runs that cannot
    be compared, DataError where a pair shares no graded question."""
    entries = [_entry(path, plugins) for path in _distinct(paths)]
    _check_same_benchmark(entries)
    runs = [
        ComparedRun("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i % 26] * (1 + i // 26), settings, entry)
        for i, (entry, settings) in enumerate(zip(entries, _settings(entries), strict=True))
    ]
    records = [entry.records() for entry in entries]
    found, pairs = differing(entries), _pairs(runs, records)
    return RunComparison(runs, found, warning(found), [*_notes(runs, records), *_pair_notes(pairs)], pairs)


def _pairs(runs: Sequence[ComparedRun], records: Sequence[list[Record]]) -> list[Pair]:
    """All pairs, with Holm's correction over the p-values of their headlines."""
    task = runs[0].entry.rules()
    places = list(combinations(range(len(runs)), 2))
    compared = [compare(records[i], records[j], task.rules.metrics, task.tables, task.rules.unit) for i, j in places]
    p_values = [comparison.headline.p for comparison in compared]
    return [
        Pair(runs[i], runs[j], comparison, p, level, *_changed(records[i], records[j]))
        for (i, j), comparison, p, level in zip(
            places, compared, holm(p_values), holm_levels(p_values, ALPHA), strict=True
        )
    ]


def _pair_notes(pairs: Sequence[Pair]) -> list[str]:
    """The notes of each pair; each once, since all pairs usually have the same videos."""
    return list(dict.fromkeys(note for pair in pairs for note in pair.comparison.notes))


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
        listed = " and ".join(names) if len(names) > 1 else f"{names[0]} and its miniature"
        raise RunError(
            f"these runs answered different benchmarks: {listed}. Name runs of the same benchmark and split."
        )


def _settings(entries: Sequence[Entry]) -> list[str]:
    """What distinguishes each run from the others: the model's name, and the settings unless all models differ."""
    if len({entry.model for entry in entries}) == len(entries):
        return [entry.model for entry in entries]
    settings = []
    for entry in entries:
        flat = flatten({k: v for k, v in entry.identity.items() if k not in ("source", "imported")})
        settings.append({k.removeprefix("model."): v for k, v in flat.items() if k not in _NOT_SHOWN})
    several = len({entry.model for entry in entries}) > 1
    return [
        ", ".join([entry.model, *words] if several else words)
        for entry, words in zip(entries, labels(settings), strict=True)
    ]


def _notes(runs: Sequence[ComparedRun], records: Sequence[list[Record]]) -> list[str]:
    """The remarks and failures of each run, and the inputs that were not the same as in the first run."""
    notes = []
    for run in runs:
        notes += [f"{run.letter}: {remark}" for remark in run.entry.remarks]
        failed = run.entry.scores.n_failed
        if failed:
            notes.append(f"{run.letter}: {failed} failed questions count as wrong")
    by_id = [{record.question: record for record in kept if record.status == "ok"} for kept in records]
    for run, kept in zip(runs[1:], by_id[1:], strict=True):
        shared = [(by_id[0][id], record) for id, record in kept.items() if id in by_id[0]]
        notes += _input_notes(runs[0], run, shared)
    return notes


def _input_notes(a: ComparedRun, b: ComparedRun, shared: Sequence[tuple[Record, Record]]) -> list[str]:
    """On how many shared questions the prompt, and of how many videos the frames or the file, were not the same."""
    prompts = [(x.prompt_sha256, y.prompt_sha256) for x, y in shared if x.prompt_sha256 and y.prompt_sha256]
    of_a, of_b = a.entry.prefills(), b.entry.prefills()
    prefills = [(x.video, of_a.get(x.prefill or ""), of_b.get(y.prefill or "")) for x, y in shared]
    known = [(video, x, y) for video, x, y in prefills if x is not None and y is not None]
    frames = {(video, _frames(x), _frames(y)) for video, x, y in known}
    files = {(video, _file(x), _file(y)) for video, x, y in known if x.file and y.file}
    other_prompts = sum(x != y for x, y in prompts)
    other_frames = sum(x != y for _, x, y in frames)
    other_files = sum(x != y for _, x, y in files)
    notes = []
    if other_prompts:
        notes.append(f"{a.letter} and {b.letter}: the prompt differs on {other_prompts} of {len(prompts)} questions")
    if other_frames:
        notes.append(f"{a.letter} and {b.letter}: the frames differ on {other_frames} of {len(frames)} videos")
    if other_files:
        notes.append(f"{a.letter} and {b.letter}: the video file differs on {other_files} of {len(files)} videos")
    return notes


def _frames(prefill: Prefill) -> tuple[int, ...]:
    return tuple(prefill.plan.get("indices") or ())


def _file(prefill: Prefill) -> str:
    """The identity of the video file (its size, say) as text."""
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
