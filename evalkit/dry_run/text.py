"""Prints forecasts on standard output: a block for each run, one table for a sweep. A terminal gets tables, a file or a
pipe gets plain lines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from evalkit.text import size

Rows = list[tuple[str, str]]


def show(forecast: dict[str, Any]) -> None:
    """Print one run. `forecast`: see `Forecast.plain`."""
    console = _console()
    rows = lines(forecast)
    title = f"dry run: {forecast['title']}"
    if console.is_terminal:
        table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=SIMPLE_HEAD)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        print(title, *(f"  {name:<20}{value}" for name, value in rows), sep="\n", flush=True)


def show_sweep(cells: Sequence[dict[str, Any]]) -> None:
    """Print the cells that could be estimated, named by the settings in which they differ, and their total."""
    done = [cell for cell in cells if cell["forecast"]]
    common = set.intersection(*(set(cell["overrides"]) for cell in done))
    forecasts = [cell["forecast"] for cell in done]
    body = [
        [" ".join(o.removeprefix("model.") for o in cell["overrides"] if o not in common), *_columns(cell["forecast"])]
        for cell in done
    ]
    questions, hours = sum(f["questions"] for f in forecasts), sum(f["hours"]["total"] for f in forecasts)
    operations = sum(sum(f["flops"].values()) for f in forecasts)
    total = f"{len(done)} of {len(cells)} cells: {questions:,} questions, {_flops(operations)}, about {_hours(hours)}"
    if priced := [f["dollars"] for f in forecasts if f["dollars"] is not None]:
        total += f", at most {_dollars(sum(priced))}"
    console = _console()
    if console.is_terminal:
        table = Table(title="dry run of the sweep", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        for i, name in enumerate(_HEADER):
            table.add_column(name, justify="right" if i else "left", overflow="fold")
        for row in body:
            table.add_row(*row)
        console.print(table)
    else:
        widths = [max(len(row[i]) for row in (_HEADER, *body)) for i in range(len(_HEADER))]
        for row in (_HEADER, *body):
            print(
                "  ".join(f"{c:>{w}}" if i else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            )
    print(total, flush=True)


_HEADER = [
    *("cell", "questions", "video", "tokens", "density", "KV dense", "KV used", "peak memory", "operations", "time"),
]


def _columns(f: dict[str, Any]) -> list[str]:
    return [
        f"{f['questions']:,}",
        _hours(f["video_hours"]),
        _count(f["context_tokens"]),
        _or_unknown(f["attention_density"], "{:.3f}".format),
        _or_unknown(f["kv_bytes"], size),
        _or_unknown(f["kv_bytes_used"], size),
        _or_unknown(f["peak_device_bytes"], size),
        _flops(sum(f["flops"].values())) if f["kv_bytes"] is not None else UNKNOWN,
        _hours(f["hours"]["total"]),
    ]


def lines(f: dict[str, Any]) -> Rows:
    """The printed rows, (name, value); what is not known is left out."""
    rows: Rows = [("run", f["run"])]
    if f["answered"]:
        rows.append(("answered already", f"{f['answered']:,} questions; the rest is counted"))
    rows += [
        ("videos", f"{f['videos']:,}, {_hours(f['video_hours'])} to decode, {f['frames']:,} frames to read"),
        ("questions", f"{f['questions']:,}"),
    ]
    if f["context_tokens"] is not None:
        rows.append(("tokens", _tokens(f)))
    if f["kv_bytes"] is not None:
        rows += _model_lines(f)
    if f["dollars"] is not None:
        rows.append(("dollars", f"at most {_dollars(f['dollars'])}"))
    if f["questions"]:
        rows.append(("time", _time(f)))
    if f["judge"]:
        rows.append(("judge", _judge(f["judge"])))
    if f["failing"]:
        rows.append(("will fail", f"{f['failing']:,} questions: {f['failure']}"))
    return rows + [("note", remark) for remark in _notes(f)]


def _tokens(f: dict[str, Any]) -> str:
    return (
        f"{_count(f['visual_tokens'])} visual, {_count(f['context_tokens'])} with text a video; "
        f"{_count(f['prompt_tokens'])} a question, and at most {f['new_tokens']} new ones"
    )


def _dollars(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 1 else f"${dollars:.3g}"


def _model_lines(f: dict[str, Any]) -> Rows:
    used = ""
    if f["kv_bytes_used"] is not None:
        used = f"; used by a question {size(f['kv_bytes_used'])}, {f['kv_used_share']:.3f} of its video's"
    parts = ", ".join(f"{name} {_flops(count)}" for name, count in f["flops"].items())
    rows = [
        ("attention density", f"{f['attention_density']:.3f}"),
        ("KV cache", f"{size(f['kv_bytes'])} a video, {size(f['kv_bytes_largest'])} the largest{used}"),
        ("", f"exact for {f['exact']:,} of {f['videos']:,} videos"),
    ]
    if f["peak_device_bytes"] is not None:
        rows.append(("peak device memory", f"about {size(f['peak_device_bytes'])}"))
    return [*rows, ("operations", f"{_flops(sum(f['flops'].values()))}: {parts}")]


def _judge(judge: dict[str, Any]) -> str:
    if not judge["model"]:
        return "none is set: the answers stay ungraded until they are rescored with one"
    cap = f"; task.judge.max_calls={judge['max_calls']} stops before that" * (judge["requests"] > judge["max_calls"])
    return f"at most {judge['requests']:,} requests to {judge['model']}{cap}"


def _time(f: dict[str, Any]) -> str:
    hours, speed = f["hours"], f["throughput"]
    decoding = f"video decoding {_hours(hours['video_decoding'])} at {speed['video_speed']:g} times real time"
    if f["kv_bytes"] is None:
        return decoding
    model = f"the model {_hours(hours['compute'])} at {speed['tflops']:g} TFLOP/s"
    return f"about {_hours(hours['total'])}: {model}, and at the same time {decoding}"


def _notes(f: dict[str, Any]) -> list[str]:
    notes = []
    if f["missing"]:
        notes.append(f"{f['missing']:,} videos are missing; the forecast includes them")
    if unknown := f["videos"] - f["known"]:
        notes.append(
            f"the lengths of {unknown:,} videos are not exact: from a header, the annotations or the mean of all"
        )
    return notes + f["remarks"]


UNKNOWN = "?"


def _console() -> Console:
    return Console(highlight=False, no_color=bool(os.environ.get("NO_COLOR")))


def _or_unknown(value: float | None, form: Any) -> str:
    return UNKNOWN if value is None else str(form(value))


def _count(value: float | None) -> str:
    return _or_unknown(value, "{:,.0f}".format)


def _flops(count: float) -> str:
    *units, largest = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")
    for unit in units:
        if count < 1000:
            return f"{count:.3g} {unit}" if count < 100 else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.3g} {largest}" if count < 100 else f"{count:,.0f} {largest}"


def _hours(hours: float) -> str:
    seconds = hours * 3600
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{hours:,.1f} h"
