"""What the user sees: a live display on a terminal, plain dated lines elsewhere, and a table at the end."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from evalkit.scoring.summary import Metric, Scores
from evalkit.text import size
from evalkit.trackers.base import RunInfo, RunResult, Tracker
from evalkit.types import Record, VideoQuestions

_LINE_EVERY_S = 30.0


class ConsoleTracker(Tracker):
    """Progress in videos and questions, the running score, and an ETA from seconds of video: lengths differ a
    hundredfold, so counts would mislead."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _console()

    def start(self, info: RunInfo) -> None:
        self.info = info
        self.state = _State(info)
        c = self.console
        names = info.names
        c.print(
            f"[bold]{names['benchmark']}[/bold] ({names['split']}, protocol {names['protocol']}) with {names['model']}"
        )
        c.print(escape(str(info.path)), soft_wrap=True)
        for remark in info.remarks:
            c.print(f"[yellow]{escape(remark)}[/yellow]")
        if self.state.questions_done:
            c.print(f"continuing: {self.state.questions_done} of {self.state.questions} questions are answered already")
        self.progress = _display(self.console, self.state) if c.is_terminal and info.pending else None
        if self.progress:
            self.progress.start()
        self._last_line = float("-inf")  # the first answer is worth a line at once
        if info.pending and not self.progress:
            self._line(f"{self.state.counts()}: loading the model, then asking")

    def record(self, record: Record) -> None:
        if not self.info.pending:
            return  # graded elsewhere: there is nothing to wait for
        state = self.state
        state.add(record)
        if self.progress:
            self.progress.update(self.progress.tasks[0].id, completed=state.seconds_done)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._line(state.line())

    def finish(self, result: RunResult) -> None:
        self.close()
        if not self.progress and self.info.pending:
            self._line(self.state.line())
        print_scores(self.console, self.info, result)

    def close(self) -> None:
        if self.progress:
            self.progress.stop()

    def _line(self, text: str) -> None:
        self.console.print(f"{datetime.now().isoformat(sep=' ', timespec='seconds')} {text}", soft_wrap=True)


def _console() -> Console:
    """stderr; as wide as the terminal, or wide enough for a table in a log file."""
    found = Console(stderr=True, highlight=False, no_color=bool(os.environ.get("NO_COLOR")))
    return found if found.is_terminal else Console(file=found.file, highlight=False, no_color=True, width=120)


class _State:
    """Counts of a run in progress."""

    def __init__(self, info: RunInfo) -> None:
        asked = {q.id for item in info.items for q in item.questions}
        self.questions, self.videos = len(asked), len(info.items)
        done = [r for r in info.records if r.status == "ok" and r.question in asked]
        self.questions_done = len(done)
        self.videos_done = self.videos - len(info.pending)
        self.score_sum, self.scored = sum(r.score or 0.0 for r in done), len(done)
        self.failed = 0
        self._left = {item.video.id: len(item.questions) for item in info.pending}
        self._weight = _seconds_a_question(info.pending)
        self.seconds_total = sum(self._weight[v] * n for v, n in self._left.items())
        self.seconds_done = 0.0
        self.started = time.monotonic()

    def add(self, record: Record) -> None:
        self.questions_done += 1
        self.scored += 1
        self.score_sum += record.score or 0.0
        self.failed += record.status != "ok"
        self.seconds_done += self._weight.get(record.video, 0.0)
        left = self._left.get(record.video, 0) - 1
        self._left[record.video] = left
        self.videos_done += left == 0

    def eta(self) -> str:
        if not self.seconds_done:
            return "--:--"
        spent = time.monotonic() - self.started
        left = spent * (self.seconds_total - self.seconds_done) / self.seconds_done
        return str(timedelta(seconds=round(max(left, 0.0))))

    def score(self) -> str:
        return f"{100 * self.score_sum / self.scored:.1f}" if self.scored else "-"

    def counts(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"videos {self.videos_done}/{self.videos}, questions {self.questions_done}/{self.questions}{failed}"

    def line(self) -> str:
        return f"{self.counts()}, score so far {self.score()}, ETA {self.eta()}"


def _seconds_a_question(items: Sequence[VideoQuestions]) -> dict[str, float]:
    """Annotated seconds of video for each question of a video; the mean length stands in where none is annotated."""
    known = [c.video.duration_s for c in items if c.video.duration_s]
    typical = sum(known) / len(known) if known else 60.0
    return {c.video.id: (c.video.duration_s or typical) / len(c.questions) for c in items}


class _Counts(ProgressColumn):
    def __init__(self, state: _State) -> None:
        super().__init__()
        self.state = state

    def render(self, task: Task) -> Text:
        return Text(self.state.line())


def _display(console: Console, state: _State) -> Progress:
    progress = Progress(BarColumn(), _Counts(state), TextColumn("·"), TimeElapsedColumn(), console=console)
    progress.add_task("questions", total=state.seconds_total)
    return progress


def print_scores(console: Console, info: RunInfo, result: RunResult) -> None:
    """Headline and metrics with n, coverage and interval; slices stay in scores.csv. Then what it cost."""
    scores = result.scores
    title = "{benchmark} {split} · {model} · protocol {protocol}".format(**info.names)
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("metric", "score", "95% interval", "n", "answered only", "coverage"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for metric in headline_rows(scores):
        table.add_row(*_cells(metric, scores))
    console.print(table)
    for note in [*scores.notes, *remark_lines(result)]:
        console.print(f"[yellow]{escape(note)}[/yellow]", soft_wrap=True)
    for line in cost_lines(result):
        console.print(line, soft_wrap=True)
    console.print(f"slices: {info.path / 'scores.csv'}", soft_wrap=True)


def headline_rows(scores: Scores) -> list[Metric]:
    """The protocol's metrics over all questions, headline first."""
    return [row for row in scores.rows if not row.group]


def _cells(metric: Metric, scores: Scores) -> list[str]:
    interval = f"{metric.low:.2f} – {metric.high:.2f}" if metric.low is not None and metric.high is not None else "-"
    answered = f"{metric.answered:.2f}" if metric.answered is not None else "-"
    value = f"{metric.value:.2f}" if metric.value is not None else "-"
    return [metric.metric, value, interval, str(metric.n), answered, f"{100 * scores.coverage:.1f}%"]


def remark_lines(result: RunResult) -> list[str]:
    """What the model remarked on its answers, with the number of answers."""
    counts = Counter(remark for record in result.records for remark in record.remarks)
    return [f"{count} of {len(result.records)} answers: {remark}" for remark, count in counts.most_common(5)]


def cost_lines(result: RunResult) -> list[str]:
    e = result.efficiency
    if not e["questions"]:
        return []
    stages = ("video_decode", "vision", "prefill", "question", "generate")
    measured = [(stage.replace("_", " "), e[f"{stage}_s"]) for stage in stages if e[f"{stage}_s"] is not None]
    spent = f": {', '.join(f'{stage} {seconds:.1f} s' for stage, seconds in measured)}" if measured else ""
    prefills = f", {e['prefills']} prefills" if e["prefills"] else ""
    lines = [f"{e['videos']} videos, {e['questions']} questions{prefills}{spent}"]
    if e["ttft_first_s"] is not None:
        later = f", later ones {e['ttft_later_s']:.2f} s" if e["ttft_later_s"] is not None else ""
        lines.append(f"time to first token: first question of a video {e['ttft_first_s']:.2f} s{later}")
    if e.get("dollars") is not None:
        lines.append(f"${e['dollars']:.4g} for {e['questions']} questions")
    if e["kv_bytes_dense"]:
        used = e["kv_bytes_used"] / e["kv_bytes_dense"] if e["kv_bytes_used"] else 1.0
        density = f", attention density {e['attention_density']:.2f}" if e["attention_density"] is not None else ""
        lines.append(f"KV cache {size(e['kv_bytes_dense'])} a video, {used:.2f} of it used{density}")
    return lines
