"""Each reply is matched to the question that it answers, in every format of log, and to no other."""

import csv
import json
import random

import pytest

from evalkit.config import instantiate
from evalkit.errors import DataError
from evalkit.import_log.logged_question import LoggedQuestion, same_gold
from evalkit.runs import read_records
from evalkit.sources import Mini
from evalkit.types import Question
from tests.foreign_logs import (
    DOCS,
    TASKS,
    Row,
    arguments,
    interchangeable,
    jsonl,
    lettered,
    lmms_json,
    lmms_record,
    lvbench,
    mlvu,
    pairs,
    run,
    videomathqa,
    videomme,
    videomme_log,
    vlmevalkit_tsv,
    vlmevalkit_xlsx,
)


@pytest.mark.parametrize("form", [lmms_json, vlmevalkit_xlsx, vlmevalkit_tsv])
@pytest.mark.parametrize(("name", "doc", "settings"), DOCS)
def test_every_reply_reaches_its_question(name, doc, settings, form, tmp_path):
    asked = pairs(name, **settings)
    rows = [
        lmms_record(i, doc(item, q), str(q.gold), f"reply to {interchangeable((item, q))}", 1 + i % 6)
        for i, (item, q) in enumerate(asked)
    ]
    random.Random(3).shuffle(rows)
    file = form([*rows, *rows[:2]], tmp_path)  # ranks are padded with documents that were asked already
    records = {r.question: r for r in read_records(run(file, tmp_path / "r", *arguments(name, **settings)))}
    for pair in asked:
        assert records[pair[1].id].reply == f"reply to {interchangeable(pair)}"
    assert len(records) == len(asked)


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, _, settings in DOCS[:2] + DOCS[3:]])
def test_samples_without_documents(name, settings, tmp_path):
    """lmms-eval's newer samples: the row's number in the data, the right answer, and the prompt."""
    task = instantiate({"_target_": f"evalkit.tasks.{name}.{TASKS[name]}", **settings}, "task")
    asked = [(item, q) for item in task.load(Mini().open(task).root) for q in item.questions]
    rows = [
        {
            "doc_id": i,
            "target": str(list(q.gold) if isinstance(q.gold, tuple) else q.gold),
            "filtered_resps": [q.id],
            "input": "\n".join(("Watch the video.", q.text, *lettered(q.options, "({}) {}"), "Answer with a letter.")),
        }
        for i, (_, q) in enumerate(asked)
    ]
    random.Random(2).shuffle(rows)
    records = read_records(run(jsonl(tmp_path / "s.jsonl", rows), tmp_path / "r", *arguments(name, **settings)))
    assert [r.question for r in records if r.reply != r.question] == []


def test_vnbench_results(tmp_path):
    """The official result lines: an id that ends in the number of the try, the right answer as letter or number, null
    for a missing reply."""
    asked = pairs("vnbench")
    rows = [
        {
            "question_id": q.id,
            "pred": None if i == 5 else f"{q.gold}. {q.id}",
            "gt": q.gold if i % 2 else "ABCD".index(str(q.gold)),
            "type": q.groups["type"][0],
            "try": int(q.id[-1]),
        }
        for i, (_, q) in enumerate(asked)
    ]
    folder = run(jsonl(tmp_path / "vnbench.jsonl", rows), tmp_path / "r", *arguments("vnbench"))
    records = read_records(folder)
    assert [r.reply for r in records if r.question != asked[5][1].id] == [
        f"{q.gold}. {q.id}" for i, (_, q) in enumerate(asked) if i != 5
    ]
    assert {r.reply: r.score for r in records}[""] == 0
    with (folder / "scores.csv").open(newline="") as file:
        overall = next(csv.DictReader(file))
    assert float(overall["value"]) == pytest.approx(100 * (8.5 / 9))  # one of the two groups of one of the nine types


def vnbench_annotations() -> list[Row]:
    """The rows of a complete copy: nine kinds of needles in 150 haystacks, four tries each. In 1,022 of the 1,350
    videos the right answer has the same letter in two of the tries, as in the published copy."""
    kinds = [f"{family}_{kind}" for family in ("ret", "ord", "cnt") for kind in ("edit1", "insert1", "insert2")]
    rows = []
    for number in range(1350):
        kind, haystack = kinds[number // 150], number % 150
        words = ["1", "2", "12", "21"] if kind.startswith("cnt") else [f"{w}, and w" for w in "wxyz"]
        right, others = words[0], words[1:]
        letters = [0, 1, 2, 0] if number < 1022 else [0, 1, 2, 3]
        for attempt, at in enumerate(letters):
            wrong = others[attempt % 3 :] + others[: attempt % 3] if attempt < 3 else others[::-1]
            options = [*wrong[:at], right, *wrong[at:]]
            row = {"video": f"./VNBench_new/v{haystack}_{kind}.mp4", "question": f"What is it, {kind}?"}
            rows.append({**row, "options": options, "gt": right, "gt_option": at, "type": kind, "try": attempt})
    return rows


def vnbench_published() -> list[bool]:
    """Whether each reply of LLaVA-OneVision's published file is right, as its sums have it: of 450 videos a family 347,
    236 and 116 are right in all four tries, and 596 single tries of the others."""
    all_four = [video < right for right in (347, 236, 116) for video in range(450)]
    spare = [number for number, right in enumerate(all_four) if not right][:596]
    return [right or (attempt == 0 and i in {*spare}) for i, right in enumerate(all_four) for attempt in range(4)]


def test_the_published_vnbench_log(tmp_path):
    """In the columns of llava-ov-7b-videoniah-result.jsonl of the benchmark's repository: no id, and two tries of a
    video may have the same right letter. The options in the prompt tell them apart."""
    data = tmp_path / "data"
    data.mkdir()
    rows = vnbench_annotations()
    (data / "VNBench-main-4try.json").write_text(json.dumps(rows))
    log = []
    for row, right in zip(rows, vnbench_published(), strict=True):
        gold = "ABCD"[row["gt_option"]]
        question = "\n".join((row["question"], *lettered(tuple(row["options"]), "{}. {}")))
        prompt = (
            f"<|im_start|>user\n<image>\n{question}\nAnswer with the option's letter from the given choices directly."
        )
        told = {"prompt": f"{prompt}<|im_end|>\n", "try": row["try"]}
        pred = gold if right else "ABCD"[row["gt_option"] - 1]
        log.append({"video_path": row["video"], **told, "pred": pred, "gt": gold, "task_type": row["type"]})
    random.Random(4).shuffle(log)
    named = ["task=vnbench", "source=local", f"source.root={data}", "task.protocol=llava_example", "tracker=csv"]
    folder = run(jsonl(tmp_path / "llava.jsonl", log), tmp_path / "r", *named)
    with (folder / "scores.csv").open(newline="") as file:
        scores = {row["metric"]: row for row in csv.DictReader(file) if not row["group"]}
    found = {name: round(float(scores[name]["value"]), 2) for name in ("ret", "ord", "cnt", "Overall", "single try")}
    assert found == {"ret": 77.11, "ord": 52.44, "cnt": 25.78, "Overall": 51.78, "single try": 62.81}
    assert scores["single try"]["n"] == "5400"


@pytest.mark.parametrize("number", [int, float, str])
def test_tries_without_options_are_distinguished_by_their_number(number, tmp_path):
    asked = pairs("vnbench")
    rows = [
        {
            "video_path": f"./{item.video.path.name}",
            "prompt": q.text,
            "pred": q.id,
            "gt": q.gold,
            "try": number(q.id[-1]),
        }
        for item, q in asked
    ]
    random.Random(4).shuffle(rows)
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("vnbench")))
    assert len(records) == len(asked) and all(r.reply == r.question for r in records)


def test_a_longvideobench_submission(tmp_path):
    asked = pairs("longvideobench", split="test")
    file = tmp_path / "longvideobench_test_for_submission.json"
    file.write_text(json.dumps({q.id: f"B, {q.id}" for _, q in asked}))
    folder = run(file, tmp_path / "r", *arguments("longvideobench", split="test"))
    assert [(r.reply, r.score) for r in read_records(folder)] == [(f"B, {q.id}", None) for _, q in asked]
    assert json.loads((folder / file.name).read_text()) == json.loads(file.read_text())


def test_charades_results_under_their_long_keys(tmp_path):
    asked = pairs("charades_sta")
    keys = {f"{item.video.id}.mp4>>>{q.text}>>>{list(q.gold)}": q.id for item, q in asked}
    file = tmp_path / "results.json"
    file.write_text(json.dumps({key: f"from 1.0 to 2.0 ({id})" for key, id in keys.items()}))
    records = read_records(run(file, tmp_path / "r", *arguments("charades_sta")))
    assert [r.reply for r in records] == [f"from 1.0 to 2.0 ({q.id})" for _, q in asked]


SAYS = {
    "old metric": lambda item, q: {f"{item.video.id}.mp4>>>{q.text}>>>{list(q.gold)}": "reply"},
    "new metric": lambda item, q: {"query": f"{item.video.id}.mp4>>>{q.text}>>>{list(q.gold)}", "pred": [0, 1]},
    "nothing": lambda item, q: {"iou": 0.5},
}


@pytest.mark.parametrize("says", SAYS)
def test_charades_samples_without_documents(says, tmp_path):
    """lmms-eval's newer samples drop the document; a metric may name video and sentence, the number always stands for
    the row of the data, in which the sentences of a video need not follow each other."""
    data = tmp_path / "data"
    data.mkdir()
    task = instantiate({"_target_": "evalkit.tasks.charades_sta.CharadesSTA"}, "task")
    lines = (Mini().open(task).root / "charades_sta_test.txt").read_text().splitlines()
    random.Random(5).shuffle(lines)
    (data / "charades_sta_test.txt").write_text("\n".join(lines) + "\n")
    asked = [(item, q) for item in task.load(data) for q in item.questions]
    rows = [
        {
            "doc_id": i,
            "target": str(list(q.gold)),
            "filtered_resps": [f"0.0 - 1.0, {q.id}"],
            "input": f"Please find the visual event: {q.text}. Please return its times.",
            "some_metric": SAYS[says](item, q),
        }
        for i, (item, q) in enumerate(asked)
    ]
    assert [q.id for _, q in asked] != sorted(q.id for _, q in asked)
    named = ["task=charades_sta", "source=local", f"source.root={data}", "task.allow_missing=true", "tracker=csv"]
    random.Random(1).shuffle(rows)
    records = read_records(run(jsonl(tmp_path / "samples.jsonl", rows), tmp_path / "r", *named))
    assert len(records) == len(asked)
    assert all(r.reply == f"0.0 - 1.0, {r.question}" for r in records)


def test_videomme_results_by_video(tmp_path):
    """The file that the script of Video-MME's authors reads."""
    videos: dict[str, Row] = {}
    for item, q in pairs("videomme"):
        video = videos.setdefault(item.video.id, {"video_id": item.meta["video_id"], "questions": []})
        video["questions"].append({"question_id": q.id, "answer": q.gold, "response": f"{q.gold}. {q.id}"})
    file = tmp_path / "output.json"
    file.write_text(json.dumps(list(videos.values())))
    records = read_records(run(file, tmp_path / "r", *arguments("videomme")))
    assert all(r.reply == f"{r.gold}. {r.question}" and r.score == 1 for r in records)


def test_llava_answers_and_needles(tmp_path):
    asked = instantiate({"_target_": "evalkit.tasks.niah.NIAH"}, "task")
    ids = [q.id for item in asked.read(Mini().open(asked)) for q in item.questions]
    rows = [{"question_id": id, "prompt": "<image>\nx", "text": f"B, {id}", "metadata": {}} for id in ids]
    records = read_records(run(jsonl(tmp_path / "answers.jsonl", rows), tmp_path / "r", *arguments("niah")))
    assert [r.reply for r in records] == [f"B, {id}" for id in ids]


@pytest.mark.parametrize("percent", [1, 100])
def test_needle_answers_by_their_cell(percent, tmp_path):
    """Rows of frames, depth, reply and right answer, as Video-XL's needle logs have them: no id, no question."""
    task = instantiate({"_target_": "evalkit.tasks.niah.NIAH", "control": False}, "task")
    asked = [(item, q) for item in task.read(Mini().open(task)) for q in item.questions]
    rows = []
    for item, q in asked:
        composite = item.video.composite
        cell = {"frames": composite.frames, "depth": float(percent * composite.depth)}
        rows.append({**cell, "seconds": 1.5, "output": f"{q.gold}) in {cell}", "answer": q.gold})
    named = [*arguments("niah"), "task.control=false"]
    records = {r.question: r for r in read_records(run(jsonl(tmp_path / "n.jsonl", rows), tmp_path / "r", *named))}
    assert {q.id: records[q.id].reply for _, q in asked} == {
        q.id: row["output"] for (_, q), row in zip(asked, rows, strict=True)
    }


def test_ids_with_a_folder_and_an_ending(tmp_path):
    asked = pairs("vnbench")
    rows = [{"question_id": f"./VNBench/{q.id}", "pred": q.id} for _, q in asked]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("vnbench")))
    assert [r.reply for r in records] == [q.id for _, q in asked]


def test_empty_cells_are_empty_replies(tmp_path):
    asked = pairs("videomme")
    rows = [{**videomme(item, q), "prediction": float("nan") if i < 3 else q.gold} for i, (item, q) in enumerate(asked)]
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"results": rows, "model": "x"}))
    records = read_records(run(file, tmp_path / "r", *arguments("videomme")))
    assert [r.reply for r in records] == ["", "", "", *(q.gold for _, q in asked[3:])]


def test_a_prompt_of_two_questions_is_matched_by_the_right_answer(tmp_path):
    """As Video-MME's 472-1 and 475-1: one prompt, two videos, two right answers."""
    asked = pairs("videomme")
    shared = [q for _, q in asked if sum(other.text == q.text for _, other in asked) > 1]
    rows = [
        {
            "doc_id": i,
            "target": q.gold,
            "input": f"Select.\n{q.text}\n" + "\n".join(q.options),
            "filtered_resps": [q.id],
        }
        for i, (_, q) in enumerate(reversed(asked))
    ]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("videomme")))
    assert [r.reply for r in records] == [q.id for _, q in asked]
    assert shared or len({q.text for _, q in asked}) == len(asked)


@pytest.mark.parametrize(
    ("stated", "options", "gold", "verdict"),
    [
        ("B", ("x", "y"), "B", True),
        ("(B)", ("x", "y"), "B", True),
        ("B. y", ("x", "y"), "B", True),
        ("y.", ("x", "Y"), "B", True),
        (1, ("x", "y"), "B", True),
        ("A", ("x", "y"), "B", False),
        (0, ("x", "y"), "B", False),
        ("x", ("x", "y"), "B", False),
        ("(A) x", ("x", "y"), "B", False),
        ("(A)", ("x", "y"), "B", False),
        ("A.", ("x", "y"), "B", False),
        ("(B) same", ("same", "same"), "A", True),  # two options have the right text
        (3, ("3", "4", "5"), "A", True),  # a value, not a number of an option
        (3.0, ("3", "4", "5"), "A", True),
        ("A. C. elegans", ("C. elegans", "E. coli"), "A", True),
        ("C. elegans", ("C. elegans", "E. coli"), "B", False),
        ("something else", ("x", "y"), "B", None),
        ("A", ("x", "y"), "none of them", None),  # MLVU has two such rows
        ("none of them", ("x", "y"), "none of them", True),
        ([4.0, 11.0], (), (4.004, 11.0), True),
        ("[4.0, 11.0]", (), (4.0, 12.0), False),
        ("4.0 to 11.0", (), (4.0, 12.0), None),
        ("B", (), "B", True),
        ("A", (), "B", False),
        ("B", ("x", "y"), None, None),
    ],
)
def test_what_agrees_with_a_right_answer(stated, options, gold, verdict):
    assert same_gold(LoggedQuestion(golds=(stated,)), Question("q", "?", options, gold)) is verdict


def other_gold(row: Row) -> None:
    row["doc"]["answer"] = row["target"] = row["some_mc_accuracy"]["gt_answer"] = "A" if row["target"] != "A" else "B"


def other_text(row: Row) -> None:
    row["doc"]["question"] = "Is this a question of another benchmark altogether?"


def other_options(row: Row) -> None:
    row["doc"]["options"] = row["doc"]["options"][::-1]


@pytest.mark.parametrize(
    ("change", "about"), [(other_gold, "the right answer"), (other_text, "its text"), (other_options, "its options")]
)
def test_a_row_that_contradicts_its_question_is_named(change, about, tmp_path):
    rows = videomme_log(pairs("videomme"))
    change(rows[4])
    with pytest.raises(
        DataError, match=rf"1 of 18 rows contradict .*log\.json, row 5 differs in {about} from question 002-2"
    ):
        run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme"))
    records = read_records(run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme"), "unmatched=skip"))
    assert [r.question for r in records if r.status == "failed"] == ["002-2"]


def test_numbers_of_rows_are_no_ids(tmp_path):
    """LVBench's ids look like numbers of rows; a log whose rows are numbered otherwise is joined by its texts, or
    refused."""
    asked = pairs("lvbench")
    assert {q.id for _, q in asked} == {str(i) for i in range(len(asked))}
    rows = [{"id": i, "reply": q.id, **lvbench(item, q)} for i, (item, q) in enumerate(reversed(asked))]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("lvbench")))
    assert all(r.reply == r.question for r in records)
    bare = [{"id": i, "reply": "A", "target": q.gold} for i, (_, q) in enumerate(reversed(asked))]
    with pytest.raises(DataError, match=r"contradict|belong to no question"):
        run(jsonl(tmp_path / "y.jsonl", bare), tmp_path / "r2", *arguments("lvbench"))


def test_a_log_of_another_split_is_refused(tmp_path):
    rows = [lmms_record(i, mlvu(item, q), str(q.gold), "A") for i, (item, q) in enumerate(pairs("mlvu", split="test"))]
    with pytest.raises(DataError, match=r"rows belong to no question of this task and split.*log\.json, row 1;"):
        run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("mlvu"))


def test_five_options_are_not_scored_as_two(tmp_path):
    """VideoMathQA's two splits share videos, texts and ids."""
    rows = [lmms_record(i, videomathqa(*pair), str(pair[1].gold), "A") for i, pair in enumerate(pairs("videomathqa"))]
    with pytest.raises(DataError, match=r"contradict .* its options|belong to no question"):
        run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomathqa", split="mbin"))


def test_different_answers_to_one_question_are_reported(tmp_path, capsys):
    rows = videomme_log(pairs("videomme"))
    rows[2]["resps"] = [["A", "B", "A"]]
    rows.append({**rows[0], "resps": [["something else"]]})
    records = read_records(run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme")))
    said = capsys.readouterr().err
    assert "1 answered again, and differently (log.json, row 19)" in said
    assert "1 answered several times in one row, and differently (log.json, row 3)" in said
    assert (records[0].reply, records[2].reply) == (records[0].gold, "A")


def test_a_log_of_several_runs_is_refused(tmp_path):
    rows = videomme_log(pairs("videomme"))
    both = [*rows, *({**row, "resps": ["Z"]} for row in rows)]
    with pytest.raises(DataError, match=r"18 of 18 questions are answered again.*holds several runs"):
        run(lmms_json(both, tmp_path), tmp_path / "r", *arguments("videomme"))


def test_two_runs_are_not_mixed(tmp_path):
    rows = videomme_log(pairs("videomme"))
    one, two = jsonl(tmp_path / "one.jsonl", rows), [{**row, "resps": ["Z"]} for row in rows]
    with pytest.raises(DataError, match="18 questions are answered differently by several of the files"):
        run([one, jsonl(tmp_path / "two.jsonl", two)], tmp_path / "r", *arguments("videomme"))
