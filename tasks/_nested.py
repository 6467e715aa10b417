"""Rows inside a row: files that hold one object a video, with its questions in a list."""

from __future__ import annotations

from evalkit.tables import Row


def parts(row: Row, column: str) -> list[Row]:
    """The objects of a column, as rows that name the same row in messages. Raises DataError where they are none."""
    values = row[column]
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        raise row.error(column, "expected a list of objects, one a question")
    return [Row(value, row.path, row.number, id_types=row.id_types) for value in values]
