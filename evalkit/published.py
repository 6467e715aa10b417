"""Published scores, for comparison with one's own: `data/published_scores.csv`.

Each row gives the model, what was measured (benchmark, split, metric, slice), how (protocol, subtitles, frames), and
the source. An empty cell is not known. `second_hand`: read in another paper's table. The same score from two
sources is two rows, because sources differ.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files

from evalkit.errors import DataError

RESOURCE = "data/published_scores.csv"
SUBTITLES = ("", "none", "with")


@dataclass(frozen=True, slots=True)
class Published:
    """One published score. `benchmark` and `split` as in `task=` and `task.split=`; `metric`, `group`, `label` and the
    scale of `value` as in the rows of `Scores`. `setting`: of the model. `frames`: the largest number of frames."""

    model: str
    setting: str
    benchmark: str
    split: str
    metric: str
    group: str
    label: str
    protocol: str
    subtitles: str
    frames: int | None
    value: float
    source: str
    second_hand: bool
    note: str


def published_scores(benchmark: str | None = None, split: str | None = None) -> list[Published]:
    """All rows, or those of one benchmark and split, in the order of the file."""
    text = files("evalkit").joinpath(RESOURCE).read_text(encoding="utf-8")
    return [row for row in read_published(text) if benchmark in (None, row.benchmark) and split in (None, row.split)]


def read_published(text: str, name: str = RESOURCE) -> list[Published]:
    """The rows of a table in this format. Raises DataError naming line and column."""
    table = csv.DictReader(io.StringIO(text, newline=""))
    columns = [field.name for field in fields(Published)]
    if table.fieldnames != columns:
        raise DataError(f"{name}: the columns are {table.fieldnames}; they have to be {columns}.")
    rows = [_row(values, f"{name}, line {number}") for number, values in enumerate(table, 2)]
    _check_unique(rows, name)
    return rows


def _row(values: Mapping[str, str], where: str) -> Published:
    if None in values or None in values.values():
        raise DataError(f"{where}: the number of cells is not the number of columns.")
    for column in ("model", "benchmark", "split", "metric", "source"):
        if not values[column].strip():
            raise DataError(f"{where}: {column} is empty.")
    for column, choices in (("subtitles", SUBTITLES), ("second_hand", ("yes", "no"))):
        if values[column] not in choices:
            raise DataError(f'{where}: {column} is "{values[column]}"; it has to be one of {choices}.')
    if bool(values["group"]) != bool(values["label"]):
        raise DataError(f"{where}: a group needs a label, and a label a group.")
    texts = {name: values[name] for name in values if name not in ("frames", "value", "second_hand")}
    return Published(
        **texts, frames=_frames(values, where), value=_value(values, where), second_hand=values["second_hand"] == "yes"
    )


def _value(values: Mapping[str, str], where: str) -> float:
    try:
        value = float(values["value"])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise DataError(f'{where}: value is "{values["value"]}"; it has to be a number from 0 to 100.')
    return value


def _frames(values: Mapping[str, str], where: str) -> int | None:
    text = values["frames"]
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise DataError(f'{where}: frames is "{text}"; it has to be a whole number, or empty where it is not known.')
    return int(text) if text else None


def _check_unique(rows: Iterable[Published], name: str) -> None:
    """Raise DataError for two rows of one source about the same score."""
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        key = tuple(getattr(row, f.name) for f in fields(row) if f.name not in ("value", "note", "frames"))
        if key in seen:
            raise DataError(f"{name}: two rows for {row.model}, {row.benchmark}, {row.metric} from {row.source}.")
        seen.add(key)
