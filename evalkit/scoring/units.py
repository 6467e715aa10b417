"""Units: the questions that are scored together.

In most benchmarks a question is its own unit. VNBench asks each question four times with reshuffled options, and
VideoMathQA's MBin splits one into four: there a unit counts only if all its members are right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evalkit.types import Record


@dataclass(frozen=True, slots=True)
class UnitScore:
    """A unit's `value`: 0 where a member failed, None where the protocol drops it or its answers are hidden.
    `complete`: every member is there, once."""

    id: str
    cluster: str
    groups: Mapping[str, Sequence[str]]
    value: float | None
    failed: bool = False
    invalid: bool = False
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Unit:
    """Units of `size` questions; more than one means that all have to be right."""

    size: int = 1

    def reduce(self, records: Iterable[Record], value: str = "score") -> list[UnitScore]:
        """One score a unit, in order of first appearance. `value` names the score of a grade to use. `records`: one a
        question."""
        if self.size == 1:
            return [_single(record, value) for record in records]
        members: dict[str, list[Record]] = {}
        for record in records:
            members.setdefault(record.unit, []).append(record)
        return [self._score(id, records, value) for id, records in members.items()]

    def _score(self, id: str, members: list[Record], value: str) -> UnitScore:
        failed = any(record.status != "ok" for record in members)
        values = [value_of(record, value) for record in members]
        complete = len(members) == self.size
        score = None
        if any(v is not None for v in values):
            score = float(complete and all(v is not None and v >= 1 for v in values))
        invalid = any(record.status == "ok" and not record.valid for record in members)
        return UnitScore(id, members[0].cluster, _groups(members), score, failed, invalid, complete)


EACH = Unit()


def all_of(size: int) -> Unit:
    """A unit of `size` questions is right if all are; one with a missing member is wrong, and marked incomplete."""
    return Unit(size)


def value_of(record: Record, value: str) -> float | None:
    """The named score of a record; 0 for a failed one, None where there is none."""
    if record.status != "ok":
        return 0.0
    return record.score if value == "score" else record.values.get(value)


def _single(record: Record, value: str) -> UnitScore:
    """A question that is a unit of its own."""
    failed = record.status != "ok"
    score = value_of(record, value)
    return UnitScore(record.question, record.cluster, record.groups, score, failed, not failed and not record.valid)


def _groups(members: list[Record]) -> dict[str, tuple[str, ...]]:
    """Labels of all members, each once."""
    merged: dict[str, dict[str, None]] = {}
    for record in members:
        for group, labels in record.groups.items():
            merged.setdefault(group, {}).update(dict.fromkeys(labels))
    return {group: tuple(labels) for group, labels in merged.items()}
