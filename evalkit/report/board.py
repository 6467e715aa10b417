"""The leaderboard as data: columns (benchmark, split, protocol), rows (model, settings) and the cells between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from evalkit.flat import flatten

from .entries import Entry
from .naming import Settings, labels, varying
from .ranks import Rank, ranks

_SAID = ("split", "protocol", "reasoning", "name")
"""Settings of a task that every column says."""

_OF_DATA = ("allow_missing",)
"""Settings of a task that decide what is asked, not how: their runs share a column, and the coverage tells."""


@dataclass(frozen=True, eq=False)
class Column:
    """What is comparable: one benchmark, split and protocol, the same kind of data. `words` are further settings of
    the task by which columns of one benchmark differ."""

    id: str
    task: str
    benchmark: str
    split: str
    protocol: str
    metric: str
    miniature: bool
    words: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Row:
    """A model with its settings. `letter` stands for it in figures; `words` tell it from other rows of the model;
    `settings` are all of them."""

    letter: str
    model: str
    words: tuple[str, ...]
    settings: Settings = field(repr=False)

    @property
    def title(self) -> str:
        return " · ".join((self.model, *self.words))


@dataclass(frozen=True)
class Cell:
    """A run's place on the board. `remarks` are numbers of the board's remarks."""

    column: Column
    row: Row
    entry: Entry
    rank: Rank | None
    remarks: tuple[int, ...]

    @property
    def tags(self) -> list[tuple[str, str]]:
        """What must be seen with the score: a word and its explanation."""
        entry, scores = self.entry, self.entry.scores
        tags = []
        if self.column.miniature:
            tags.append(("miniature", f"a miniature of {entry.benchmark}, not the benchmark"))
        if entry.limit is not None:
            tags.append((f"first {entry.limit}", "limited on purpose: only the first questions were asked"))
        if entry.below_coverage:
            tags.append(
                (
                    "below coverage",
                    f"{scores.n - scores.n_failed} of {scores.n_expected} questions were answered and graded",
                )
            )
        return tags


@dataclass(frozen=True)
class Board:
    columns: list[Column]
    rows: list[Row]
    cells: list[Cell]
    remarks: list[str]

    def cell(self, row: Row, column: Column) -> Cell | None:
        return next((c for c in self.cells if c.row is row and c.column is column), None)

    def of(self, column: Column) -> list[Cell]:
        """The cells of a column, best first; runs that cannot be ranked after the others."""
        return sorted((c for c in self.cells if c.column is column), key=_merit)


def _merit(cell: Cell) -> tuple[bool, float, str]:
    value = cell.entry.scores.headline.value
    return (not cell.entry.whole, -value if value is not None else 1e9, cell.row.letter)


def build(entries: Sequence[Entry]) -> Board:
    columns = _columns(entries)
    rows = _rows(entries, columns)
    remarks = list(dict.fromkeys(remark for entry in entries for remark in entry.remarks))
    places: dict[int, Rank | None] = {}
    for column in dict.fromkeys(columns):
        members = [i for i, c in enumerate(columns) if c is column]
        places |= dict(zip(members, ranks([entries[i] for i in members]), strict=True))
    cells = [
        Cell(columns[i], rows[i], entry, places[i], tuple(remarks.index(r) + 1 for r in entry.remarks))
        for i, entry in enumerate(entries)
    ]
    ordered = sorted(
        dict.fromkeys(columns), key=lambda c: (c.benchmark.lower(), c.split, c.protocol, c.miniature, c.words)
    )
    return Board(ordered, sorted(dict.fromkeys(rows), key=lambda r: (len(r.letter), r.letter)), cells, remarks)


def _columns(entries: Sequence[Entry]) -> list[Column]:
    """One column for each entry; entries that are comparable share theirs."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for i, e in enumerate(entries):
        kinds.setdefault((e.task, e.split, e.protocol, e.scores.headline.metric, e.miniature), []).append(i)
    found: list[Column | None] = [None] * len(entries)
    for members in kinds.values():
        settings = [_of_task(entries[i], lambda key: key not in (*_SAID, *_OF_DATA)) for i in members]
        made: dict[tuple[str, ...], Column] = {}
        for i, words in zip(members, labels(settings), strict=True):
            if words not in made:
                made[words] = _column(entries[i], words, {column.id for column in found if column})
            found[i] = made[words]
    return [column for column in found if column is not None]


def _of_task(entry: Entry, wanted: Callable[[str], bool]) -> dict[str, Any]:
    return {k: v for k, v in flatten(entry.identity.get("task") or {}).items() if wanted(k)}


def _column(entry: Entry, words: tuple[str, ...], taken: set[str]) -> Column:
    """Its id names files too: letters, digits and dashes, and no other column's."""
    parts = [entry.task, entry.split, entry.protocol, *(["mini"] if entry.miniature else []), *words]
    name = "-".join("".join(c if c.isalnum() else "-" for c in part) for part in parts).strip("-").lower()
    id = next(id for id in chain([name], (f"{name}-{n}" for n in count(2))) if id not in taken)
    metric = entry.scores.headline.metric
    return Column(id, entry.task, entry.benchmark, entry.split, entry.protocol, metric, entry.miniature, words)


def _rows(entries: Sequence[Entry], columns: Sequence[Column]) -> list[Row]:
    """One row for each entry; entries of the same model and settings share theirs, whatever they were asked. Where two
    would fall into the same cell, what else differs between them tells them apart."""
    settings = [dict(flatten(entry.identity.get("model") or {"id": entry.summary["model"]})) for entry in entries]
    groups: dict[tuple[str, str], list[int]] = {}
    for i, entry in enumerate(entries):
        groups.setdefault(_kind(entry, settings[i]), []).append(i)
    for members in groups.values():
        if len({id(columns[i]) for i in members}) < len(members):
            rest = [_elsewhere(entries[i]) for i in members]
            for key in varying(rest):
                for i, other in zip(members, rest, strict=True):
                    settings[i][key] = other.get(key)
    words = _words(entries, settings)
    made: dict[tuple[str, str], Row] = {}
    order = sorted(range(len(entries)), key=lambda i: (entries[i].model.lower(), _sortable(words[i])))
    for i in order:
        kind = _kind(entries[i], settings[i])
        if kind not in made:
            made[kind] = Row(_letter(len(made)), entries[i].model, words[i], settings[i])
    return [made[_kind(entry, own)] for entry, own in zip(entries, settings, strict=True)]


def _elsewhere(entry: Entry) -> dict[str, Any]:
    """The settings of a run that neither its row nor its column says."""
    other = flatten({k: v for k, v in entry.identity.items() if k not in ("model", "task")})
    return {**_of_task(entry, lambda key: key in _OF_DATA), **other}


def _kind(entry: Entry, settings: Settings) -> tuple[str, str]:
    """Equal for runs of the same model and settings."""
    return entry.model, repr(sorted(settings.items(), key=repr))


def _words(entries: Sequence[Entry], settings: Sequence[Settings]) -> list[tuple[str, ...]]:
    words: list[tuple[str, ...]] = [()] * len(entries)
    for model in dict.fromkeys(entry.model for entry in entries):
        members = [i for i, entry in enumerate(entries) if entry.model == model]
        for i, word in zip(members, labels([settings[i] for i in members]), strict=True):
            words[i] = word
    return words


def _sortable(words: Sequence[str]) -> list[tuple[str, float]]:
    """Words in the order of their numbers: ratio=4 before ratio=16."""
    keys = []
    for word in words:
        name, _, value = word.rpartition("=")
        keys.append((name, float(value)) if value.replace(".", "", 1).isdigit() else (word, 0.0))
    return keys


def _letter(number: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return ("" if number < 26 else _letter(number // 26 - 1)) + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 26]
