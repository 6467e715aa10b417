"""Rows inside a row: files with one object for each video, which has a list of questions."""

from __future__ import annotations

from evalkit.tables import Row


def parts(row: Row, column: str) -> list[Row]:
    """The objects in a column, as rows with the same file and line. Raises DataError if it is not a list of objects."""
    values = row[column]
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        raise row.error(column, "expected a list of objects, one a question")
    return [Row(value, row.path, row.number, id_types=row.id_types) for value in values]
