"""Stored replies are graded again without model and videos, under every protocol, with the same bytes each time."""

import json
import shutil
from pathlib import Path

import pytest

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.errors import ConfigError, DataError, RunError
from evalkit.import_log.command import import_log
from evalkit.rescore import rescore
from evalkit.runs import read_records
from tests.foreign_logs import TASKS, arguments, check_scores, jsonl, pairs
from tests.helpers import CONF, only_run, run_command, run_here, toy_arguments
from tests.replay import REPLAY, SETTINGS, needs_replay
from tests.toy import write_toy

ODD = (
    "B",
    "B. red",
    "(B) red",
    "The answer is B.",
    "b",
    "Best option: (B)",
    "",
    "None of these",
    "B) because A is not",
)
"""Replies that the published extractors read differently."""


@pytest.fixture
def toy(tmp_path) -> Path:
    """A run of the toy benchmark with unusual replies, whose videos were deleted afterwards."""
    data, results = write_toy(tmp_path / "data"), tmp_path / "results"
    assert run_here(toy_arguments(data, results)) == 0
    run = only_run(results)
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for record, reply in zip(records, ODD + ODD, strict=False):
        record["reply"] = reply
    (run / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shutil.rmtree(data / "videos")
    return run


def again(run: Path, *settings: str) -> set[Path]:
    """The run folders that rescoring adds."""
    before = set(run.parent.iterdir())
    assert rescore(Arguments([str(run)], ["plugins=[tests]", *settings], [CONFIGS, CONF])) in (0, 3)
    return set(run.parent.iterdir()) - before


def content(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(run.iterdir()) if file.is_file() and file.name != ".lock"}


def test_the_replies_stay_and_the_grades_are_the_other_protocols(toy):
    before = content(toy)
    (strict,) = again(toy, "task.protocol=strict")
    assert content(toy) == before
    old, new = read_records(toy), read_records(strict)
    assert [r.reply for r in new] == [r.reply for r in old]
    assert {r.protocol for r in new} == {"strict"}
    kept = ("video", "gold", "prompt", "prompt_sha256", "prefill", "seconds", "started")
    assert all(getattr(a, name) == getattr(b, name) for a, b in zip(old, new, strict=True) for name in kept)
    assert {r.reply: r.extracted for r in new}["B) because A is not"] == "B"
    assert [r.score for r in new] != [r.score for r in old]


def test_twice_gives_the_same_bytes(toy):
    (strict,) = again(toy, "task.protocol=strict")
    first = content(strict)
    assert again(toy, "task.protocol=strict") == set()
    assert content(strict) == first


def test_the_first_protocol_again_gives_the_first_grades(toy):
    (own,) = again(toy)  # the replies were exchanged since, so the run's own grades are stale
    (strict,) = again(toy, "task.protocol=strict")
    graded = content(own)["records.jsonl"]
    assert again(strict, "task.protocol=official") == set()  # the very run that is there already
    assert content(own)["records.jsonl"] == graded


def test_a_rescored_run_rescored_keeps_its_origin(toy):
    (strict,) = again(toy, "task.protocol=strict")
    (back,) = again(strict, "task.protocol=official")
    for run in (strict, back):
        origin = json.loads((run / "manifest.json").read_text())["rescored_from"]
        assert origin == {"key": toy.name, "protocol": "official"}
        remarks = json.loads((run / "summary.json").read_text())["remarks"]
        assert [remark for remark in remarks if "rescored" in remark] == [
            f"rescored: replies to the prompts of protocol official ({toy.name})"
        ]


def test_a_failed_question_stays_failed(tmp_path):
    data = write_toy(tmp_path / "data")
    run_here([*toy_arguments(data, tmp_path / "r"), "model.fail_on=v1-2"])
    (strict,) = again(only_run(tmp_path / "r"), "task.protocol=strict")
    (failed,) = (r for r in read_records(strict) if r.status == "failed")
    assert (failed.question, failed.score, failed.reply) == ("v1-2", None, None)


def test_a_limited_run_stays_limited(tmp_path):
    data = write_toy(tmp_path / "data")
    for limit in (4, 2):  # a lower one removes no answer
        assert run_here([*toy_arguments(data, tmp_path / "r"), f"limit={limit}"]) == 0
    (strict,) = again(only_run(tmp_path / "r"), "task.protocol=strict")
    assert len(read_records(strict)) == 4
    scores = json.loads((strict / "summary.json").read_text())["scores"]
    assert scores["coverage"] == json.loads((only_first(strict) / "summary.json").read_text())["scores"]["coverage"]


def only_first(rescored: Path) -> Path:
    return rescored.parent / json.loads((rescored / "manifest.json").read_text())["rescored_from"]["key"]


def test_other_data_under_the_same_ids_is_noticed(toy, tmp_path):
    table = tmp_path / "data" / "questions.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[5]["answer"] = "D" if rows[5]["answer"] != "D" else "A"
    jsonl(table, rows)
    with pytest.raises(DataError, match=r'the right answer to question "v1-2" was .* and is .* in the data now'):
        again(toy, "task.protocol=strict")
    jsonl(table, rows[:4])
    with pytest.raises(DataError, match='has no question "v1-1": was the data replaced'):
        again(toy, "task.protocol=strict")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (["model.reply=B"], ConfigError, "model.reply cannot be changed by rescoring"),
        (["task=mlvu"], ConfigError, "task cannot be changed by rescoring"),
        (["task.protocol=lmms"], ConfigError, "has no such protocol"),
        (["task.protocl=strict"], ConfigError, 'Did you mean "protocol"'),
        (["tracker=cvs"], ConfigError, 'Did you mean "csv"'),
        (["source.root=/nowhere"], DataError, "is not a folder"),
    ],
)
def test_mistakes(settings, error, words, toy):
    with pytest.raises(error, match=words):
        again(toy, *settings)


def test_source_and_tracker_can_be_chosen_by_name(toy, tmp_path):
    named = ("source=local", f"source.root={tmp_path / 'data'}", "tracker=csv")
    (made,) = again(toy, "task.protocol=strict", *named)
    assert "wandb: disabled" in (made / "config.yaml").read_text()
    assert again(toy, "task.protocol=strict", "tracker.wandb=disabled") == set()  # the same grades, the same folder


def test_a_run_cannot_list_plugins_by_itself(toy):
    assert "plugins:\n- tests" in (toy / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=r"tests\.toy\.Toy.* is outside evalkit.*plugins=tests"):
        rescore(Arguments([str(toy)], ["task.protocol=strict"], [CONFIGS]))


def test_folders_that_are_no_runs(toy, tmp_path):
    for missing in ("records.jsonl", "config.yaml", "manifest.json"):
        copy = tmp_path / missing / "toy" / "constant" / "key"
        shutil.copytree(toy, copy)
        (copy / missing).unlink()
        with pytest.raises(RunError, match=missing.replace(".", r"\.")):
            rescore(Arguments([str(copy)], ["plugins=[tests]"], [CONFIGS]))
    (copy / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        rescore(Arguments([str(copy)], ["plugins=[tests]"], [CONFIGS]))
    (toy / "records.jsonl").write_text("")
    with pytest.raises(RunError, match="has no answers yet"):
        rescore(Arguments([str(toy)], [], [CONFIGS]))
    with pytest.raises(ConfigError, match="name one run folder"):
        rescore(Arguments([], [], [CONFIGS]))


def test_the_command_as_typed(toy, tmp_path):
    named = [str(toy), "task.protocol=strict", f"results={tmp_path / 'other'}", "plugins=[tests]"]
    done = run_command(*named, module="evalkit.rescore")
    assert done.returncode == 0, done.stderr
    assert "rescored: replies to the prompts of protocol official" in done.stderr
    assert len(read_records(only_run(tmp_path / "other"))) == 12


PROTOCOLS = [
    (name, settings, protocol)
    for name, settings in [
        *((name, {}) for name in TASKS),
        ("mlvu", {"split": "test"}),
        ("videomathqa", {"split": "mbin"}),
    ]
    for protocol in (
        *("official", "lmms_eval", "video_xl_2", "videochat_flash", "llava_example", "video_xl", "tolerant"),
        *("time_r1", "timesuite", "llava_video", "cot_tolerant", "lmms_eval_cot"),
    )
]


def offered(name: str, settings: dict[str, str], protocol: str) -> bool:
    from evalkit.config import instantiate

    task = instantiate({"_target_": f"evalkit.tasks.{name}.{TASKS[name]}", **settings}, "task")
    return protocol in task.available_protocols()


@pytest.mark.parametrize(
    ("name", "settings", "protocol"), [case for case in PROTOCOLS if offered(*case)], ids=lambda value: str(value)
)
def test_import_under_a_protocol_is_import_and_rescoring(name, settings, protocol, tmp_path):
    """Importing under a protocol, and importing under another and rescoring, give the same grades."""
    rows = [{"question_id": q.id, "reply": ODD[i % len(ODD)]} for i, (_, q) in enumerate(pairs(name, **settings))]
    file, named = jsonl(tmp_path / "x.jsonl", rows), arguments(name, **settings)
    import_log(Arguments([str(file)], [*named, f"results={tmp_path / 'one'}"], [CONFIGS]))
    there = [*named, f"task.protocol={protocol}", f"results={tmp_path / 'two'}"]
    import_log(Arguments([str(file)], there, [CONFIGS]))
    rescore(
        Arguments([str(only_run(tmp_path / "one"))], [f"task.protocol={protocol}", f"results={tmp_path / 'three'}"], [])
    )

    def grades(results: Path) -> list[tuple[object, ...]]:
        records = read_records(only_run(tmp_path / results))
        return [(r.question, r.reply, r.extracted, r.score, r.valid, r.rule, r.values) for r in records]

    assert grades(tmp_path / "three") == grades(tmp_path / "two")


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
def test_real_answers_rescored_give_the_published_scores(setting, tmp_path):
    file, root = REPLAY / f"lvbench/predictions/{setting}.jsonl.gz", REPLAY / "lvbench" / "annotations"
    named = ["task=lvbench", "source=local", f"source.root={root}", "tracker=csv", "task.protocol=official"]
    import_log(Arguments([str(file)], [*named, f"results={tmp_path}"], [CONFIGS]))
    (rescored,) = again(only_run(tmp_path), "task.protocol=video_xl_2")
    check_scores(rescored, setting)
