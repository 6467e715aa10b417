"""The table of published scores: its format, and values from its sources."""

from __future__ import annotations

import gzip
import importlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import fields

import pytest

from evalkit.errors import ConfigError, DataError
from evalkit.published import Published, published_scores, read_published
from tests.replay import REPLAY, needs_replay

HEADER = ",".join(field.name for field in fields(Published))
SETTINGS = {
    "pure": "pure",
    "w_chunk": "chunked prefill",
    "w_chunk_bilevel": "chunked prefill and bi-level decode",
}


TASKS = {
    "mlvu": ("MLVU", {}),
    "videomme": ("VideoMME", {"subtitles": (False, True)}),
    "lvbench": ("LVBench", {}),
    "longvideobench": ("LongVideoBench", {"subtitles": (None, "none", "interleaved", "text")}),
    "vnbench": ("VNBench", {}),
    "charades_sta": ("CharadesSTA", {}),
    "videomathqa": ("VideoMathQA", {"subtitles": (False, True)}),
    "mvbench": ("MVBench", {}),
    "nextqa": ("NExTQA", {}),
    "niah": ("NIAH", {}),
}


def one(model: str, benchmark: str, metric: str, **where: object) -> Published:
    where = {"group": "", "label": "", **where}
    found = [
        row
        for row in published_scores(benchmark)
        if (row.model, row.metric) == (model, metric) and all(getattr(row, k) == v for k, v in where.items())
    ]
    assert len(found) == 1, found
    return found[0]


def table(line: str) -> str:
    return f"{HEADER}\n{line}\n"


GOOD = "M,,mlvu,dev,M-Avg,,,official,,64,70.5,a paper,no,"


def test_the_registry_is_read_and_in_scale() -> None:
    rows = published_scores()
    assert len(rows) > 380
    assert {row.benchmark for row in rows} >= {
        "mlvu", "videomme", "lvbench", "longvideobench", "vnbench", "charades_sta", "videomathqa", "mvbench", "nextqa",
        "niah",
    }  # fmt: skip
    for row in rows:
        in_ten = row.metric in ("G-Avg", "steps")
        assert 0 < row.value <= (10 if in_ten else 100), row


def test_headlines_of_video_xl_2() -> None:
    bilevel = SETTINGS["w_chunk_bilevel"]
    assert one("Video-XL-2", "mlvu", "overall", setting=bilevel).value == 74.793
    assert one("Video-XL-2", "mlvu", "M-Avg", setting=bilevel).value == 72.91
    assert one("Video-XL-2", "lvbench", "accuracy", setting="pure").value == 47.64
    assert one("Video-XL-2", "videomme", "accuracy (no subtitles)", setting="chunked prefill").frames == 300
    assert one("Video-XL-2", "longvideobench", "accuracy (no subtitles)", setting=bilevel).subtitles == "none"
    # The mean of the tasks is the macro average, and rounds to it.
    tasks = [row.value for row in published_scores("mlvu", "dev") if row.group == "task" and row.setting == bilevel]
    assert sum(tasks) / len(tasks) == pytest.approx(72.91, abs=0.005) and len(tasks) == 7


@pytest.mark.parametrize("benchmark", TASKS)
def test_rows_are_named_as_a_run_names_its_scores(benchmark: str) -> None:
    """Rows and runs can be compared: same splits, metrics, protocols and slices. If a source does not mention
    subtitles, the metric's name does not either."""
    cls = getattr(importlib.import_module(f"evalkit.tasks.{benchmark}"), TASKS[benchmark][0])
    names: dict[str, set[str]] = {}
    protocols: dict[str, set[str]] = {}
    for settings in settings_of(cls, TASKS[benchmark][1]):
        try:
            task = cls(**settings)
        except ConfigError:
            continue  # a protocol that cannot show subtitles so
        names.setdefault(task.split, set()).update(metric.name for metric in task.rules.metrics)
        protocols.setdefault(task.split, set()).add(task.protocol)
    for row in published_scores(benchmark):
        assert row.split in cls.splits, row
        assert row.protocol in {"", *protocols[row.split]}, row
        plain = {name.partition(" (")[0] for name in names[row.split]}
        assert row.metric in names[row.split] or (row.subtitles == "" and row.metric in plain), row
        assert row.group in {"", *cls.tables}, row
        assert not (row.protocol and row.subtitles == "" and row.metric not in names[row.split] | {"steps"}), row


def settings_of(cls: type, choices: dict[str, tuple[object, ...]]) -> Iterator[dict[str, object]]:
    protocols = ["official", "lmms_eval", "video_xl_2", "videochat_flash", "llava_video", "cot"]
    values = [list(cls.splits), protocols, *choices.values()]  # type: ignore[attr-defined]
    for chosen in itertools.product(*values):
        yield dict(zip(["split", "protocol", *choices], chosen, strict=True))


def test_doubtful_scores_have_a_note() -> None:
    assert "unverified" in one("Video-XL-2", "charades_sta", "mIoU").note
    doubtful = one("Video-XL-2", "lvbench", "accuracy", value=48.4)
    assert doubtful.second_hand and doubtful.note == "equals no log"
    assert all(row.second_hand for row in published_scores() if "table of other models" in row.source)
    assert all(row.second_hand for row in published_scores("charades_sta") if row.model in ("TimeSuite", "TimeZero"))


def test_what_is_unknown_is_absent() -> None:
    assert not [row for row in published_scores("vnbench") if row.model == "Video-XL-2"]
    assert not [row for row in published_scores("mvbench") if row.model == "Video-XL-2"]
    assert not [row for row in published_scores("videomathqa") if row.model.startswith("Video-XL")]
    assert not [row for row in published_scores() if row.model.startswith("Video-X2L")]


def test_the_video_xl_family_on_video_mme() -> None:
    shown = {
        row.label: row.value
        for row in published_scores("videomme")
        if row.model == "Video-XL-7B" and row.subtitles == "with"
    }
    assert shown == {"": 61.0, "short": 67.4, "medium": 60.7, "long": 54.9}


def test_videomathqa_has_its_eight_columns() -> None:
    cells = {
        (row.protocol, row.split, row.subtitles): row.value
        for row in published_scores("videomathqa")
        if row.model == "GPT-4o" and not row.second_hand and row.metric.startswith("accuracy")
    }
    order = [(p, s, sub) for p in ("official", "cot") for s in ("mcq", "mbin") for sub in ("none", "with")]
    assert [cells[key] for key in order] == [20.2, 24.5, 12.6, 13.6, 27.1, 34.3, 18.6, 22.9]
    assert one("GPT-4o", "videomathqa", "steps").value == 4.9


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
def test_lvbench_rows_follow_from_the_logs(setting: str) -> None:
    with gzip.open(REPLAY / "lvbench/annotations/lvbench_flat.jsonl.gz", "rt") as file:
        questions = {row["uid"]: row for row in map(json.loads, file)}
    right: dict[tuple[str, str], list[bool]] = {}
    with gzip.open(REPLAY / f"lvbench/predictions/{setting}.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            question = questions[row["question_id"]]
            slices = [("", ""), ("type", question["type"]), ("first_capability", question["question_type"][0])]
            for key in slices + [("capability", label) for label in question["question_type"]]:
                right.setdefault(key, []).append(row["output"] == question["answer"])
    rows = [row for row in published_scores("lvbench") if row.setting == SETTINGS[setting]]
    assert {(row.group, row.label) for row in rows} == set(right)
    for row in rows:
        marks = right[row.group, row.label]
        assert row.value == pytest.approx(100 * sum(marks) / len(marks), abs=0.0051), row


def test_a_good_row() -> None:
    (row,) = read_published(table(GOOD))
    assert (row.model, row.frames, row.value, row.second_hand, row.setting) == ("M", 64, 70.5, False, "")
    (row,) = read_published(table(GOOD.replace(",64,", ",,")))
    assert row.frames is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace("70.5", "170.5"), 'line 2: value is "170.5"'),
        (GOOD.replace("70.5", "nan"), 'line 2: value is "nan"'),
        (GOOD.replace("70.5", "about 70"), 'line 2: value is "about 70"'),
        (GOOD.replace(",64,", ",many,"), 'line 2: frames is "many"'),
        (GOOD.replace("M,", ",", 1), "line 2: model is empty"),
        (GOOD.replace("a paper", ""), "line 2: source is empty"),
        (GOOD.replace(",no,", ",maybe,"), 'second_hand is "maybe"'),
        (GOOD.replace("official,,", "official,some,"), 'subtitles is "some"'),
        (GOOD.replace("M-Avg,,,", "M-Avg,task,,"), "a group needs a label"),
        (GOOD + ",more", "the number of cells"),
        (GOOD[:20], "the number of cells"),
        (f"{GOOD}\n{GOOD.replace('70.5', '71')}", "two rows for M, mlvu, M-Avg from a paper"),
    ],
)
def test_bad_rows_name_line_and_column(line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_published(table(line))


def test_a_table_with_other_columns() -> None:
    with pytest.raises(DataError, match="the columns are"):
        read_published("model,value\nM,1\n")
