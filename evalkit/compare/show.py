"""Print a comparison on a terminal, or as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.scoring.compare import Delta

from .comparison import ComparedRun, Pair, RunComparison


@dataclass(frozen=True)
class Table:
    """A table of text. The last `numbers` columns are aligned right."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int


def terminal(comparison: RunComparison, show: int) -> None:
    """Print with colours on a terminal, as plain text 160 characters wide otherwise. `show`: changed questions to
    name."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(Text(_title(comparison), style="bold"))
    for run in comparison.runs:
        console.print(Text(f"  {run.letter}  {_run(run)}"), soft_wrap=True)
    for table in _tables(comparison):
        shown = RichTable(title=Text(table.title, style="bold"), title_justify="left", show_edge=False, pad_edge=False)
        for i, head in enumerate(table.heads):
            shown.add_column(Text(head), justify="right" if i >= len(table.heads) - table.numbers else "left")
        for row in table.rows:
            shown.add_row(*(Text(cell) for cell in row))
        console.print()
        console.print(shown)
    console.print()
    if comparison.warning:
        console.print(Text(f"warning: {comparison.warning}", style="yellow"), soft_wrap=True)
    for line in [*comparison.notes, *_changed(comparison, show)]:
        console.print(Text(line), soft_wrap=True)
    console.print(Text(comparison.verdict, style="bold"), soft_wrap=True)


def markdown(comparison: RunComparison, show: int) -> None:
    """Print the same as Markdown."""
    print(f"## {_title(comparison)}\n")
    for run in comparison.runs:
        print(f"- **{run.letter}** {_escaped(_run(run))}")
    print(f"\n**{_escaped(comparison.verdict)}**\n")
    if comparison.warning:
        print(f"> **Warning:** {_escaped(comparison.warning)}\n")
    for table in _tables(comparison):
        print(f"### {table.title}\n")
        print("| " + " | ".join(map(_escaped, table.heads)) + " |")
        print("|" + " --- |" * (len(table.heads) - table.numbers) + " ---: |" * table.numbers)
        for row in table.rows:
            print("| " + " | ".join(map(_escaped, row)) + " |")
        print()
    for line in [*comparison.notes, *_changed(comparison, show)]:
        print(f"- {_escaped(line)}")


def _title(comparison: RunComparison) -> str:
    entry = comparison.runs[0].entry
    protocols = ", ".join(dict.fromkeys(run.entry.protocol for run in comparison.runs))
    return f"{entry.benchmark} ({entry.split}), protocol {protocols}"


def _run(run: ComparedRun) -> str:
    scores = run.entry.scores
    h = scores.headline
    score = f"{h.metric} {h.value:.2f}" if h.value is not None else "answers hidden"
    interval = f" [{h.low:.2f}, {h.high:.2f}]" if h.low is not None and h.high is not None else ""
    settings = f"{run.settings}: " if run.settings else ""
    return f"{settings}{score}{interval}, n {h.n}, coverage {100 * scores.coverage:.1f}%, {run.entry.path}"


def _tables(comparison: RunComparison) -> list[Table]:
    letters = [run.letter for run in comparison.runs]
    tables = []
    if comparison.differing:
        rows = [[d.subject, d.key, *d.values] for d in comparison.differing]
        tables.append(Table("What differs", ["subject", "setting", *letters], rows, 0))
    heads = ["", "A" if len(letters) == 2 else "first", "B" if len(letters) == 2 else "second"]
    heads += ["difference", "95% interval", "gained", "lost", "p", "p (Holm)", "detectable"]
    if len(comparison.pairs) > 1:
        rows = [[f"{p.a.letter} to {p.b.letter}", *_numbers(p.difference, p.p_holm)] for p in comparison.pairs]
        return [
            *tables,
            Table(f"{comparison.pairs[0].comparison.headline.metric}, all pairs, Holm over pairs", heads, rows, 9),
        ]
    pair = comparison.pairs[0]
    overall = [row for row in pair.comparison.rows if not row.group]
    tables.append(Table("All questions", heads, [[row.metric, *_numbers(row, row.p_holm)] for row in overall], 9))
    for group in dict.fromkeys(row.group for row in pair.comparison.rows if row.group):
        rows = [[row.label, *_numbers(row, row.p_holm)] for row in pair.comparison.rows if row.group == group]
        tables.append(Table(f"By {group}, Holm over all slices", heads, rows, 9))
    return tables


def _numbers(d: Delta, p_holm: float | None) -> list[str]:
    interval = f"{d.low:+.2f} to {d.high:+.2f}" if d.low is not None and d.high is not None else "-"
    detectable = f"{d.detectable:.1f}" if d.detectable is not None else "-"
    scores = [f"{d.a:.2f}", f"{d.b:.2f}", f"{d.delta:+.2f}"]
    return [*scores, interval, str(d.gained), str(d.lost), _p(d.p), _p(p_holm), detectable]


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _changed(comparison: RunComparison, show: int) -> list[str]:
    return [line for pair in comparison.pairs for line in _changed_in(pair, show)]


def _changed_in(pair: Pair, show: int) -> list[str]:
    c = pair.comparison
    equal = f"equal answers {100 * c.equal_answers:.1f}% (kappa {'-' if math.isnan(c.kappa) else f'{c.kappa:.2f}'})"
    lines = [f"{pair.a.letter} to {pair.b.letter}: {c.questions} questions in common, {equal}"]
    if c.only_a or c.only_b:
        lines.append(
            f"left out: {c.only_a} questions that only {pair.a.letter} has, {c.only_b} that only {pair.b.letter} has"
        )
    for name, questions in (("gained", pair.gained), ("lost", pair.lost)):
        if questions and show:
            more = f", and {len(questions) - show} more" if len(questions) > show else ""
            lines.append(f"{name} {len(questions)}: {', '.join(questions[:show])}{more}")
    return lines


def _escaped(text: str) -> str:
    """Text for Markdown, in a table too."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")
