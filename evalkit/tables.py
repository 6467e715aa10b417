"""Annotation tables: JSON, JSON lines (also gzipped), parquet, CSV and TSV as rows of plain values.

Rows are validated where they are used, one column at a time: the hub's tables mix types, and coercing them silently
would change answers.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.paths import cache_dir


@dataclass(frozen=True)
class Row:
    """One row and where it stands, so that a message can say so."""

    values: dict[str, Any]
    path: Path
    number: int

    def __getitem__(self, column: str) -> Any:
        """The value of a column that must be there."""
        if column not in self.values:
            raise DataError(
                f'{self.path}, row {self.number}: there is no column "{column}". It has: {", ".join(self.values)}.'
            )
        return self.values[column]

    def get(self, column: str, default: Any = None) -> Any:
        value = self.values.get(column)
        return default if value is None else value

    def text(self, column: str) -> str:
        value = self[column]
        if not isinstance(value, str):
            raise self.error(column, f"expected text, found {value!r}")
        return value

    def texts(self, column: str) -> tuple[str, ...]:
        """A list of texts; numbers, as in counting options, become text."""
        value = self[column]
        if not isinstance(value, list) or not value:
            raise self.error(column, "the list is empty" if value == [] else f"expected a list, found {value!r}")
        return tuple(str(v) for v in value)

    def seconds(self, column: str) -> float | None:
        """A duration or a time; None where there is none."""
        value = self.get(column)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self.error(column, f"expected seconds, found {value!r}")
        return float(value)

    def error(self, column: str, what: str) -> DataError:
        return DataError(f'{self.path}, row {self.number}, column "{column}": {what}.')


def read_table(path: Path) -> list[Row]:
    """All rows of a table file. Raises DataError for a file that is missing, damaged or of an unknown kind."""
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    readers = {
        ".json": _json,
        ".jsonl": _jsonl,
        ".jsonl.gz": _jsonl,
        ".parquet": _parquet,
        ".csv": _csv,
        ".tsv": _csv,
    }
    if kind not in readers:
        raise DataError(f"{path}: unknown kind of table; evalkit reads {', '.join(readers)}.")
    if not path.is_file():
        raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}.")
    try:
        rows = list(readers[kind](path))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}). Is the download complete?") from None
    return [Row(values, path, number) for number, values in enumerate(rows, 1)]


def _json(path: Path) -> Iterator[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError("expected a list of objects")
    yield from content


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from None
                if not isinstance(row, dict):
                    raise ValueError(f"line {number}: expected an object")
                yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        table = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(cache_dir() / "tables"))
    except DatasetGenerationError as error:
        raise ValueError(str(error.__cause__ or error)) from None
    yield from table


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
