"""`leaderboard.html`, `.md`, `.csv` and the figures, from the runs below a results folder."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit import __version__
from evalkit.runs import write_atomically
from evalkit.scoring.summary import Metric

from .board import Board, Cell, Column
from .entries import Collection
from .plots import ColumnFigures, column_figures
from .published import NONE, PublishedRow, PublishedScores, published_for
from .render import page, template
from .scales import Scale, linear

COSTS: tuple[tuple[str, str, str], ...] = (
    ("frames", "frames", "count"),
    ("visual_tokens", "visual tokens", "count"),
    ("prompt_tokens", "prompt tokens", "count"),
    ("video_decode_s", "video decoding", "seconds"),
    ("vision_s", "vision", "seconds"),
    ("prefill_s", "prefill", "seconds"),
    ("question_s", "question", "seconds"),
    ("generate_s", "token generation", "seconds"),
    ("ttft_first_s", "TTFT, first question", "seconds"),
    ("ttft_later_s", "TTFT, later ones", "seconds"),
    ("tokens_per_s", "tokens/s", "count"),
    ("attention_density", "attention density", "share"),
    ("flops", "FLOPs", "flops"),
    ("dollars", "dollars", "number"),
    ("kv_bytes_dense", "KV dense", "size"),
    ("kv_bytes_used", "KV used", "size"),
    ("peak_device_bytes", "peak device memory", "size"),
    ("peak_host_bytes", "peak host memory", "size"),
)
"""Key of a run's efficiency, its heading, and how it is written. A column that no run has is not shown."""


@dataclass(frozen=True)
class Links:
    """Links from a page in the folder `out` to the files of a run and to its questions."""

    out: Path

    def files(self, cell: Cell, name: str) -> str:
        return _url(os.path.relpath(cell.entry.path / name, self.out))

    def questions(self, cell: Cell) -> str:
        return _url(f"samples/{cell.entry.name}/index.html")


def write(collection: Collection, board: Board, out: Path, results: Path, published: bool = True) -> list[Path]:
    """Write all views; returns the files in the order in which they are worth opening."""
    figures = {column: column_figures(board, column) for column in board.columns}
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for drawn in figures.values():
        for figure in drawn.all():
            write_atomically(out / "figures" / f"{figure.name}.svg", figure.svg(standalone=True) + "\n")
    metrics = {column: _metrics(board.of(column)) for column in board.columns}
    stated = published_for(board, metrics) if published else dict.fromkeys(board.columns, NONE)
    values = _values(collection, board, stated, figures, out, results)
    html = page("leaderboard.html.jinja", ("page.css", "figures.css"), "leaderboard.js", **values)
    files = [out / "leaderboard.html", out / "leaderboard.md", out / "leaderboard.csv"]
    write_atomically(files[0], html)
    write_atomically(files[1], template("leaderboard.md.jinja").render(**values))
    write_atomically(files[2], table(board, stated))
    return files


def _values(
    collection: Collection,
    board: Board,
    published: dict[Column, PublishedScores],
    figures: dict[Column, ColumnFigures],
    out: Path,
    results: Path,
) -> dict[str, Any]:
    costs = [cost for cost in COSTS if any(c.entry.efficiency.get(cost[0]) for c in board.cells)]
    return {
        "board": board,
        "figures": figures,
        "links": Links(out),
        "costs": costs,
        "published": published,
        "left_out": collection.left_out,
        "results": str(results),
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "settings": sorted({word for row in board.rows for word in row.words}),
        "scales": {column: _whisker_scale(board.of(column)) for column in board.columns},
        "others": {column: _metrics(board.of(column))[1:] for column in board.columns},
        "metric_of": _metric,
    }


def _whisker_scale(cells: Sequence[Cell]) -> Scale:
    """The pixels of the small interval drawings of a table: the same for all of its rows."""
    headlines = [cell.entry.scores.headline for cell in cells]
    ends = [end for h in headlines for end in (h.value, h.low, h.high) if end is not None]
    return linear(ends or [0.0, 100.0], 4.0, 156.0)


def _metrics(cells: Sequence[Cell]) -> list[str]:
    """The protocol's metrics over all questions, the headline first."""
    names = (row.metric for cell in cells for row in cell.entry.scores.rows if not row.group)
    return list(dict.fromkeys([cells[0].column.metric, *names]))


def _metric(cell: Cell, name: str) -> Metric | None:
    return next((row for row in cell.entry.scores.rows if row.metric == name and not row.group), None)


def table(board: Board, published: Mapping[Column, PublishedScores]) -> str:
    """leaderboard.csv: one row a run, in the order of the board, then one for each published number."""
    rows = [_csv_row(cell) for column in board.columns for cell in board.of(column)]
    rows += [
        row for column in board.columns for stated in _all(published[column]) for row in _published_rows(column, stated)
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_row(cell: Cell) -> dict[str, Any]:
    entry, scores = cell.entry, cell.entry.scores
    names = {"benchmark": entry.benchmark, "split": entry.split, "protocol": entry.protocol, "kind": "own"}
    names |= {"model": entry.model, "settings": "; ".join(cell.row.words), "run": entry.name}
    headline = scores.headline
    score = {
        "metric": headline.metric, "value": headline.value, "low": headline.low, "high": headline.high, "n": headline.n,
        "questions": scores.n, "questions_expected": scores.n_expected, "coverage": scores.coverage,
        "failed": scores.n_failed, "unread": scores.n_invalid, "rank": cell.rank or "",
        "miniature": cell.column.miniature, "limit": entry.limit, "remarks": "; ".join(entry.remarks),
    }  # fmt: skip
    return {**names, **score, **{key: entry.efficiency.get(key) for key, _, _ in COSTS}}


def _all(published: PublishedScores) -> list[PublishedRow]:
    return [*published.same, *published.other]


def _published_rows(column: Column, row: PublishedRow) -> list[dict[str, Any]]:
    """A published number knows neither its interval nor, often, its protocol: those cells stay empty."""
    s = row.stated
    names = {"benchmark": column.benchmark, "split": s.split, "protocol": s.protocol, "kind": "published"}
    names |= {"model": s.model, "settings": s.setting, "run": s.source}
    remark = "; ".join(part for part in ("second hand" if s.second_hand else "", s.note) if part)
    return [
        {**names, "metric": metric, "value": value, "frames": s.frames, "remarks": remark}
        for metric, value in row.values.items()
    ]


def _url(path: str) -> str:
    from urllib.parse import quote

    return quote(Path(path).as_posix())
