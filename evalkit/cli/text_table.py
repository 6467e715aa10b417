"""A table as plain text, its columns aligned."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """`header` and `rows` as lines; the columns are as wide as their longest cell."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
