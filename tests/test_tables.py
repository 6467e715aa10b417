"""Annotation tables of any content: each row is read, or named in a message; nothing ends in a traceback."""

from __future__ import annotations

import gzip
import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.config import instantiate
from evalkit.errors import DataError
from evalkit.files import VideoFiles, find_tables
from evalkit.sources import Mini
from evalkit.tables import BadRows, Row, read_rows, read_table, table_columns
from evalkit.task import DataSet, Task

PATH = Path("t.json")
ROWS = [{"id": "a", "n": 1}, {"id": "b", "n": 2}]


def row(**values: Any) -> Row:
    return Row(values, PATH, 7)


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (Row.text, "x", "x"),
        (Row.id, "x", "x"),
        (Row.id, 10**30, "1" + "0" * 30),
        (Row.file_name, "a/b.mp4", "a/b.mp4"),
        (Row.file_name, 7, "7"),
        (Row.file_name, "./VNBench/x.mp4", "./VNBench/x.mp4"),
        (Row.texts, ["a", 3, 2.5], ("a", "3", "2.5")),
        (Row.options, list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
        (Row.seconds, 3, 3.0),
        (Row.seconds, None, None),
    ],
)
def test_values_of_the_right_type(read, value, found):
    assert read(row(c=value), "c") == found


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (Row.text, 3, "expected text, found 3"),
        (Row.text, "half \ud800", "character 5 is half of a surrogate pair"),
        (Row.text, ["x" * 500], r"expected text, found \['x{70,}\.\.\.\.$"),
        (Row.id, None, "expected an id"),
        (Row.id, ["a"], "expected an id"),
        (Row.id, True, "expected an id"),
        (Row.id, 1.0, "expected an id"),
        (Row.id, "", "expected an id"),
        (Row.file_name, "../x", "below the benchmark's folder"),
        (Row.file_name, "/etc/passwd", "below the benchmark's folder"),
        (Row.file_name, "a\0b", "below the benchmark's folder"),
        (Row.file_name, "", "below the benchmark's folder"),
        (Row.file_name, "é" * 128, "a file name of 256 bytes is longer than 255"),
        (partial(Row.file_name, suffix=".mp4"), "x" * 252, "a file name of 256 bytes"),
        (Row.texts, "abc", "expected a list"),
        (Row.texts, [], "the list is empty"),
        (Row.texts, ["a", None], "expected text, found None"),
        (Row.texts, [["a"]], "expected text"),
        (Row.options, ["x"] * 27, "27 options, there are letters for 26"),
        (Row.seconds, -1, "expected seconds"),
        (Row.seconds, float("nan"), "expected seconds"),
        (Row.seconds, "3", "expected seconds"),
    ],
)
def test_values_of_another_type_are_named(read, value, message):
    with pytest.raises(DataError, match=rf'^t\.json, row 7, column "c": .*{message}'):
        read(row(c=value), "c")


def test_the_ids_of_a_column_are_of_one_type(tmp_path):
    (tmp_path / "t.json").write_text('[{"id": 7}, {"id": "7"}, {"id": 8}]')
    with pytest.raises(BadRows, match=r"row 2, column \"id\": the id '7' is a text, in row 1 it is a number"):
        list(read_rows(read_table(tmp_path / "t.json"), lambda row: row.id("id")))


def test_bad_rows_are_raised_together_or_reported_and_left_out(tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text('{"id": "a"}\n{"id": []}\n[1]\n{"id": "d"\n{"id": "e"}\n')
    read = partial(read_rows, read_table(tmp_path / "t.jsonl"), lambda row: row.id("id"))
    with pytest.raises(BadRows) as caught:
        list(read())
    assert [problem.partition("t.jsonl, ")[2].split(" (")[0] for problem in caught.value.problems] == [
        'row 2, column "id": expected an id',
        "row 3: expected an object, found [1].",
        "row 4: it cannot be read",
    ]
    assert list(read(skip_bad=True)) == ["a", "e"]
    assert "note: 3 of 5 rows cannot be read and are left out" in capsys.readouterr().err
    (tmp_path / "t.jsonl").write_text("[]\n")
    with pytest.raises(BadRows, match="1 of 1 row cannot be read"):
        list(read_rows(read_table(tmp_path / "t.jsonl"), lambda row: row.id("id"), skip_bad=True))


def write(path: Path, kind: str, bom: bytes = b"") -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    table = "id,n\na,1\nb,2\n"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(ROWS)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(bom + lines.encode(), mtime=0))
    else:
        content = {"json": json.dumps(ROWS), "jsonl": lines, "csv": table, "tsv": table.replace(",", "\t")}[kind]
        path.write_bytes(bom + content.encode())
    return path


KINDS = ["json", "jsonl", "jsonl.gz", "csv", "tsv", "parquet", "arrow"]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(kind, bom, tmp_path):
    path = write(tmp_path / f"t.{kind}", kind, bom)
    assert [(row["id"], str(row["n"])) for row in read_table(path)] == [("a", "1"), ("b", "2")]
    assert table_columns(path) == {"id", "n"}
    assert list(tmp_path.iterdir()) == [path]  # no second copy


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_table_is_read_or_named(kind, tmp_path, data):
    content = bytearray(write(tmp_path / f"t.{kind}", kind).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    table_columns(path)
    try:
        list(read_rows(read_table(path), lambda row: (row.id("id"), row["n"])))
    except DataError as error:
        assert path.name in str(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", b"[" * 100_000, "nested too deeply"),
        ("t.jsonl", b'{"a": ' * 100_000, "nested too deeply"),
        ("t.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:-20], "Is the download complete"),
        ("t.jsonl.gz", b"no gzip", "Is the download complete"),
        ("t.csv", b"a,b\n1\n", "it has 1 fields, the header has 2"),
        ("t.csv", b"a,b\n" + b"x" * 200_000 + b",1\n", "field larger"),
        ("t.json", b"\xff\xfe", "Is the download complete"),
        ("t.txt", b"", "unknown kind of table"),
    ],
)
def test_tables_that_cannot_be_read(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(read_table(tmp_path / name), lambda row: row["a"]))


def test_a_table_is_chosen_by_its_name_or_its_columns(tmp_path):
    """A JSON file that happens to be in the folder is no table."""
    (tmp_path / "notes.json").write_text('[{"todo": "nothing"}]')
    (tmp_path / ".hidden.json").write_text('[{"id": "x", "q": "?"}]')
    found = partial(find_tables, tmp_path, ("named.json",), ("*.json",), ({"id", "q"},))
    assert found() == []
    (tmp_path / "other.json").write_text('[{"id": "x", "q": "?", "more": 1}]')
    assert found() == [tmp_path / "other.json"]
    (tmp_path / "named.json").write_text("[]")
    assert found() == [tmp_path / "named.json"]


def test_videos_are_found_at_known_places_first_and_then_by_name(tmp_path):
    for name, content in {
        "videos/a.mp4": "1",
        "x/a.mp4": "2",
        "x/y/b.mp4": "3",
        "x/c.mp4": "4",
        "y/c.mp4": "55",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    files = VideoFiles(tmp_path)
    assert files.find("videos/a.mp4", "a.mp4") == tmp_path / "videos" / "a.mp4"
    assert files.find("videos/b.mkv", "videos/b.mp4") == tmp_path / "x" / "y" / "b.mp4"
    assert files.find("videos/lost.mp4", "lost.mp4") == tmp_path / "videos" / "lost.mp4"
    assert files.at("videos/b.mp4") == tmp_path / "videos" / "b.mp4"
    with pytest.raises(DataError, match=r"different videos of one name, x/c\.mp4 and y/c\.mp4"):
        files.find("videos/c.mp4")


TABLES = {
    "mlvu.MLVU": "json/1_plotQA.json",
    "lvbench.LVBench": "video_info.meta.jsonl",
    "longvideobench.LongVideoBench": "lvb_val.json",
    "vnbench.VNBench": "VNBench-main-4try.json",
    "charades_sta.CharadesSTA": "test.caption_coco_format.json",
    "mvbench.MVBench": "json/action_sequence.json",
    "videomme.VideoMME": "questions.jsonl",
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "x" * 300, "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@cache
def sample(name: str) -> tuple[Task, Path, list[Any]]:
    """A task with allow_missing, its miniature, and the rows of one of its tables."""
    task = instantiate({"_target_": f"evalkit.tasks.{name}", "allow_missing": True}, "task")
    root = Mini().open(task).root
    if name == "videomme.VideoMME":
        table = next(root.glob("videomme/*.parquet"))
        return task, root, pq.read_table(table).to_pylist()
    if name == "charades_sta.CharadesSTA":
        return task, root, [{"image_id": "AAAA1.mp4", "caption": "x", "timestamp": [1.0, 2.0]}] * 2
    text = (root / TABLES[name]).read_text()
    return task, root, json.loads(text) if TABLES[name].endswith("json") else list(map(json.loads, text.splitlines()))


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_of_any_shape_end_in_a_message(name, tmp_path, data):
    """One row of a published table with one value exchanged, or something else in its place."""
    task, _, rows = sample(name)
    at = data.draw(st.integers(0, len(rows) - 1))
    bad = data.draw(JSON)
    if data.draw(st.booleans()):
        bad = {**rows[at], data.draw(st.sampled_from(sorted(rows[at]))): bad}
    content: Any = [*rows[:at], bad, *rows[at + 1 :]]
    path = tmp_path / TABLES[name]
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(json.dumps({"annotations": content} if name.startswith("charades") else content))
    try:
        items = task.read(DataSet(tmp_path))
    except DataError as error:
        str(error).encode()
        return
    for item in items:
        item.video.path.exists()
        for question in item.questions:
            json.dumps([question.id, question.text, question.options, question.gold, item.video.id]).encode()
