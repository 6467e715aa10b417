"""Published scores of a column's benchmark: shown apart from its runs, with protocol and source, and not ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalkit.published import Published, published_scores

from .board import Board, Column


@dataclass(frozen=True)
class PublishedRow:
    """What one source says of one model: `values` by metric. `same`: asked and scored by the column's protocol, as far
    as the source says."""

    stated: Published
    values: Mapping[str, float]
    same: bool

    @property
    def title(self) -> str:
        return " · ".join(part for part in (self.stated.model, self.stated.setting) if part)

    @property
    def words(self) -> list[str]:
        """How the score came about, as far as that is known."""
        s = self.stated
        words = [s.setting, f"protocol {s.protocol}" if s.protocol else "protocol not stated"]
        words.append(f"at most {s.frames} frames" if s.frames else "frames not stated")
        words.append({"none": "no subtitles", "with": "with subtitles"}.get(s.subtitles, ""))
        return [word for word in words if word]


@dataclass(frozen=True)
class PublishedScores:
    """The published rows of a column: comparable ones, and those of another protocol or of none stated."""

    same: list[PublishedRow]
    other: list[PublishedRow]


NONE = PublishedScores([], [])


def published_for(board: Board, metrics: Mapping[Column, Sequence[str]]) -> dict[Column, PublishedScores]:
    """For each column the published rows of its benchmark and split, best first; `metrics` are the ones it shows. A
    miniature has none."""
    return {column: NONE if column.miniature else _published(column, metrics[column]) for column in board.columns}


def _published(column: Column, metrics: Sequence[str]) -> PublishedScores:
    found: dict[tuple[object, ...], dict[str, Published]] = {}
    for row in published_scores(column.task, column.split):
        if not row.group and (metric := _shown_as(row, metrics)):
            key = (row.model, row.setting, row.protocol, row.subtitles, row.frames, row.source)
            found.setdefault(key, {})[metric] = row
    rows = [
        PublishedRow(first, {metric: row.value for metric, row in stated.items()}, _same(first, stated, column))
        for stated in found.values()
        for first in [next(iter(stated.values()))]
    ]
    rows.sort(key=lambda row: [-row.values.get(metric, -1.0) for metric in metrics])
    return PublishedScores([row for row in rows if row.same], [row for row in rows if not row.same])


def _shown_as(row: Published, metrics: Sequence[str]) -> str | None:
    """The metric under which a published score stands: its own; where its source does not say what was shown beside
    the frames, the one of that name (`accuracy` under `accuracy (no subtitles)`)."""
    if row.metric in metrics:
        return row.metric
    return next((m for m in metrics if not row.subtitles and m.startswith(f"{row.metric} (")), None)


def _same(row: Published, stated: Mapping[str, Published], column: Column) -> bool:
    """Asked and scored as the column is, as far as the source says."""
    return row.protocol == column.protocol and all(metric == s.metric for metric, s in stated.items())
