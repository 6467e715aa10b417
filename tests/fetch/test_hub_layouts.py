"""Every public layout of every split: as the hub's repositories pack it (fetched over HTTP and unpacked), as lmms-eval
leaves it below $HF_HOME, and as the authors hand it out. The task finds every table and every video of each."""

import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.naming import camelcase_to_snakecase

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.errors import DataError
from evalkit.fetch.command import fetch
from evalkit.fetch.hub import HubClient
from evalkit.sources import Hub, Mini
from evalkit.tables import read_table
from evalkit.task import DataSet, Task
from evalkit.types import Question, VideoQuestions
from tests.fetch.hub_server import HubServer
from tests.foreign_logs import TASKS, mlvu

Content = dict[str, bytes]


def make(name: str, **settings: str) -> Task:
    return instantiate({"_target_": f"evalkit.tasks.{name}.{({**TASKS, 'niah': 'NIAH'})[name]}", **settings}, "task")


def mini(name: str) -> Path:
    return Mini().open(make(name)).root


def asked(name: str, **settings: str) -> list[tuple[VideoQuestions, Question]]:
    """The questions of the miniature, each with its video."""
    task = make(name, **settings)
    return [(item, q) for item in task.read(Mini().open(task)) for q in item.questions]


def parquet(rows: list[dict]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def zipped(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
    return buffer.getvalue()


def tarred(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, file in files.items():
            archive.add(file, name)
    return buffer.getvalue()


def below(root: Path, folder: str, under: str | None = None) -> dict[str, Path]:
    """Archive name -> file, for all files of a folder."""
    prefix = folder if under is None else under
    found = (p for p in sorted((root / folder).rglob("*")) if p.is_file())
    return {f"{prefix}/{p.relative_to(root / folder).as_posix()}".lstrip("/"): p for p in found}


def videomme() -> dict[str, Content]:
    root = mini("videomme")
    videos = below(root, "data")
    halves = list(videos.items())
    return {
        "lmms-eval/Video-MME": {
            "videomme/test-00000-of-00001.parquet": (root / "videomme/test-00000-of-00001.parquet").read_bytes(),
            "videos_chunked_01.zip": zipped(dict(halves[:3])),
            "videos_chunked_02.zip": zipped(dict(halves[3:])),
            "subtitle.zip": zipped(below(root, "subtitle")),
            "README.md": b"# Video-MME",
        }
    }


def lvbench(under: str = "") -> dict[str, Content]:
    root = mini("lvbench")
    chunk = zipped(below(root, "videos", under))
    annotations = (root / "video_info.meta.jsonl").read_bytes()
    return {
        "lmms-lab/LVBench": {"video_chunks/videos_chunk_001.zip": chunk, "README.md": b"#"},
        "zai-org/LVBench": {"video_info.meta.jsonl": annotations, "README.md": b"# other"},
    }


def longvideobench() -> dict[str, Content]:
    root = mini("longvideobench")
    videos = tarred(below(root, "videos"))
    cuts = [0, 3000, 3001, len(videos) // 2, len(videos)]
    parts = {f"videos.tar.part.a{'abcd'[i]}": videos[cuts[i] : cuts[i + 1]] for i in range(4)}
    tables = {name: (root / name).read_bytes() for name in ("lvb_val.json", "lvb_test_wo_gt.json")}
    repo = {**tables, **parts, "subtitles.tar": tarred(below(root, "subtitles"))}
    return {"longvideobench/LongVideoBench": repo}


def charades() -> dict[str, Content]:
    root = mini("charades_sta")
    rows = [
        {"video": f"{item.video.id}.mp4", "caption": q.text, "timestamp": list(q.gold)}
        for item, q in asked("charades_sta")
    ]
    videos = list(below(root, "videos", "Charades_v1_480").items())
    return {
        "lmms-lab/charades_sta": {
            "data/test-00000-of-00001.parquet": parquet(rows),
            "Charades_v1_480_part_1.zip": zipped(dict(videos[:2])),
            "Charades_v1_480_part_2.zip": zipped(dict(videos[2:])),
        }
    }


def nextqa() -> dict[str, Content]:
    root = mini("nextqa")
    numbers = ("video", "answer", "qid", "frame_count", "width", "height")
    rows = [
        {key: int(value) if key in numbers else value for key, value in row.values.items()}
        for row in read_table(root / "test.csv")
    ]
    videos = {f"NExTVideo/{file.name}": file for file in below(root, "NExTVideo").values()}  # the hub's lie flat
    repo = {"MC/test-00000-of-00001.parquet": parquet(rows), "videos.zip": zipped(videos)}
    return {"lmms-lab/NExTQA": {**repo, "OE/test-00000-of-00001.parquet": parquet(rows)}}


def mvbench() -> dict[str, Content]:
    root = mini("mvbench")
    tables = {name: file.read_bytes() for name, file in below(root, "json").items()}
    folders = sorted(folder for folder in (root / "video").iterdir() if folder.is_dir())
    archives = {
        f"video/{folder.name}.zip": zipped(below(root, f"video/{folder.name}", folder.name)) for folder in folders
    }
    return {"OpenGVLab/MVBench": {**tables, **archives}}


def videomathqa() -> dict[str, Content]:
    root = mini("videomathqa")
    names = {"mcq": "videomathqa_mcq_test.parquet", "multi_binary": "videomathqa_mbin_test.parquet"}
    tables = {names[folder]: f.read_bytes() for folder in names for f in below(root, folder).values()}
    archives = {"videos.zip": zipped(below(root, "videos")), "subtitles.zip": zipped(below(root, "subtitles"))}
    return {"MBZUAI/VideoMathQA": {**tables, **archives}}


def mlvu_dev() -> dict[str, Content]:
    """Files in folders, one of them in two archives, as tasks share videos: all are unpacked flat."""
    root = mini("mlvu")
    questions = asked("mlvu")
    videos = {f"anything/{item.video.path.name}": item.video.path for item, _ in questions}
    names = sorted(videos)
    return {
        "sy1998/MLVU_dev": {
            "mlvu/test-00000-of-00001.parquet": parquet([mlvu(item, q) for item, q in questions]),
            "video_part_1.zip": zipped({name: videos[name] for name in names[:4]}),
            "video_part_2.zip": zipped({f"else/{Path(name).name}": videos[name] for name in names[3:]}),
        },
        "MLVU/MVLU": {
            **{f"MLVU/{name}": file.read_bytes() for name, file in below(root, "json").items()},
            **{f"MLVU/{name}": file.read_bytes() for name, file in below(root, "video").items()},
        },
    }


def mlvu_test() -> dict[str, Content]:
    """The table is in mlvu_test/, not in mlvu/."""
    questions = asked("mlvu", split="test")
    videos = sorted({item.video.path for item, _ in questions})
    half = len(videos) // 2
    return {
        "sy1998/MLVU_Test": {
            "mlvu_test/test-00000-of-00001.parquet": parquet([mlvu(item, q) for item, q in questions]),
            "video_part_1.zip": zipped({f"videos/{path.name}": path for path in videos[:half]}),
            "video_part_2.zip": zipped({f"videos/{path.name}": path for path in videos[half:]}),
        }
    }


def mlvu_official_test(inside: str) -> dict[str, Content]:
    """One tar, of which it is not known whether it has the videos in one folder or in one for each task."""
    root, questions = mini("mlvu"), asked("mlvu", split="test_generation")
    paths = {(q.groups["task"][0], item.video.path) for item, q in questions}
    videos = {inside.format(task=task, name=path.name): path for task, path in sorted(paths)}
    tables = below(root, "test-ground-truth", "MLVU_Test/test-ground-truth")
    files = {name: file.read_bytes() for name, file in tables.items()}
    return {"MLVU/MLVU_Test": {**files, "MLVU_Test/video.tar": tarred(videos)}}


def vnbench() -> dict[str, Content]:
    """The annotations alone."""
    root = mini("vnbench")
    return {"videoniah/VNBench": {"VNBench-main-4try.json": (root / "VNBench-main-4try.json").read_bytes()}}


def niah() -> dict[str, Content]:
    root = mini("niah") / "needle_datasets"
    rows = [
        {
            "image": {"bytes": (root / "images" / row["path"]).read_bytes(), "path": row["path"]},
            "question": row["prompt"],
            "answer": str(row["answer"]),
        }
        for row in (row.values for row in read_table(root / "dataset.json"))
    ]
    return {"lmms-lab/v_niah_needles": {"data/test-00000-of-00001.parquet": parquet(rows)}}


LAYOUTS = [
    ("videomme", {}, videomme),
    ("videomme", {"subtitles": "true"}, videomme),
    ("lvbench", {}, lvbench),  # video_chunks/videos_chunk_001.zip with <youtube id>.mp4 in no folder
    ("lvbench", {}, partial(lvbench, "video_chunks")),
    ("lvbench", {}, partial(lvbench, "videos")),
    ("longvideobench", {}, longvideobench),
    ("longvideobench", {"split": "test"}, longvideobench),
    ("charades_sta", {}, charades),
    ("nextqa", {}, nextqa),
    ("mvbench", {}, mvbench),
    ("videomathqa", {}, videomathqa),
    ("videomathqa", {"split": "mbin"}, videomathqa),
    ("mlvu", {}, mlvu_dev),
    ("mlvu", {"split": "test"}, mlvu_test),
    ("mlvu", {"split": "dev_generation"}, mlvu_dev),
    ("mlvu", {"split": "test_generation"}, partial(mlvu_official_test, "video/{name}")),
    ("mlvu", {"split": "test_generation"}, partial(mlvu_official_test, "video/{task}/{name}")),
    ("mlvu", {"split": "test_generation"}, partial(mlvu_official_test, "MLVU_Test/video/{task}/{name}")),
]
"""(task, its settings, {repository: {path: content}}). VNBench's videos and NIAH's haystack are not on the hub."""


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start a hub with these repositories; evalkit's folders are this test's own."""
    started = []

    def start(repos: dict[str, Content], revision: str = "main") -> HubServer:
        server = HubServer(repos, revision)
        started.append(server)
        monkeypatch.setattr("evalkit.fetch.command.HubClient", partial(HubClient, server.url))
        return server

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("EVALKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    yield start
    for server in started:
        server.close()


def command(name: str, settings: dict[str, str]) -> int:
    named = [f"task={name}", "task.allow_missing=true", *(f"task.{key}={value}" for key, value in settings.items())]
    return fetch(Arguments([], named, [CONFIGS]))


@pytest.mark.parametrize(("name", "settings", "layout"), LAYOUTS)
def test_a_fetched_benchmark_finds_every_video(name, settings, layout, serve, capsys):
    serve(layout(), "video" if name == "mvbench" else "main")
    assert command(name, settings) == 0
    task = make(name, **settings, allow_missing="true")
    items = task.read(Hub().open(task))
    assert [str(item.video.path) for item in items if not item.video.path.exists()] == []
    wanted = len(asked(name, **settings))
    assert sum(len(item.questions) for item in items) == wanted
    assert f"complete: {len({item.video.path for item in items})} videos, {wanted} questions" in capsys.readouterr().out
    if settings.get("subtitles"):
        assert sum(item.video.subtitles.is_file() for item in items) >= len(items) // 2


@pytest.mark.parametrize(("name", "layout", "videos"), [("vnbench", vnbench, "VNBench_new"), ("niah", niah, "")])
def test_a_benchmark_whose_videos_are_got_by_hand(name, layout, videos, serve, tmp_path, capsys):
    serve(layout())
    assert command(name, {}) == 0
    said = capsys.readouterr().out
    assert f"by hand, into {tmp_path / 'data'}" in said and videos in said


CACHED = [
    ("videomme", {}, "lmms-lab/Video-MME", "videomme/test-00000-of-00001.parquet", "videomme", "test"),
    ("mlvu", {}, "sy1998/MLVU_dev", "mlvu/test-00000-of-00001.parquet", "default", "test"),
    ("mlvu", {"split": "test"}, "sy1998/MLVU_Test", "mlvu_test/test-00000-of-00001.parquet", "default", "test"),
    ("videomathqa", {}, "MBZUAI/VideoMathQA", "videomathqa_mcq_test.parquet", "mcq", "test"),
    ("videomathqa", {"split": "mbin"}, "MBZUAI/VideoMathQA", "videomathqa_mbin_test.parquet", "multi_binary", "test"),
    ("charades_sta", {}, "lmms-lab/charades_sta", "data/test-00000-of-00001.parquet", "default", "test"),
    ("nextqa", {}, "lmms-lab/NExTQA", "MC/test-00000-of-00001.parquet", "MC", "test"),
    (
        "longvideobench",
        {},
        "longvideobench/LongVideoBench",
        "validation-00000-of-00001.parquet",
        "default",
        "validation",
    ),
]
"""(task, settings, repository, its table, the hub's names of configuration and split)"""


def unpacked(name: str, settings: dict[str, str], folder: Path) -> None:
    """The miniature's videos as lmms-eval unpacks them, without tables."""
    root = mini(name)
    for file in sorted(path for path in root.rglob("*") if path.suffix in (".mp4", ".mkv", ".srt")):
        flat = name == "mlvu"
        to = folder / (file.name if flat else file.relative_to(root))
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())


def table_of(name: str, settings: dict[str, str], repo: str, path: str) -> bytes:
    if name == "longvideobench":
        rows = [row.values for row in read_table(mini(name) / "lvb_val.json")]
        return parquet([{k: v for k, v in row.items() if k not in ("position", "level")} for row in rows])
    layouts = {"videomme": videomme, "videomathqa": videomathqa, "charades_sta": charades, "nextqa": nextqa}
    layouts["mlvu"] = mlvu_test if settings else mlvu_dev
    return next(files[path] for files in layouts[name]().values() if path in files)


@pytest.mark.parametrize("cache", ["snapshot", "arrow"])
@pytest.mark.parametrize(("name", "settings", "repo", "path", "config", "split"), CACHED)
def test_what_lmms_eval_left_is_read_where_it_lies(
    name, settings, repo, path, config, split, cache, serve, tmp_path, capsys
):
    """Videos below $HF_HOME/<folder>; the table in the repository's snapshot, or in the cache of `datasets`."""
    task = make(name, **settings, allow_missing="true")
    folder = tmp_path / "hf" / ("datasets/longvideobench" if name == "longvideobench" else task.hub.folder)
    unpacked(name, settings, folder)
    table = tmp_path / "hf" / "hub" / f"datasets--{repo.replace('/', '--')}" / "snapshots" / ("0" * 40) / path
    table.parent.mkdir(parents=True)
    table.write_bytes(table_of(name, settings, repo, path))
    if cache == "arrow":
        load_dataset("parquet", config, data_files={split: str(table)}, cache_dir=str(tmp_path / "made"))
        table.unlink()
        (made,) = (tmp_path / "made").glob("parquet/*/*/*/*.arrow")
        org, _, short = repo.partition("/")
        place = tmp_path / "hf" / "datasets" / f"{org}___{camelcase_to_snakecase(short)}" / config / "0.0.0" / "abc"
        place.mkdir(parents=True)
        made.rename(place / f"{short.lower()}-{split}.arrow")
    before = sorted(file for file in (tmp_path / "hf").rglob("*") if file.is_file())
    server = serve({})
    assert command(name, settings) == 0
    assert server.requests == [] and "nothing was fetched" in capsys.readouterr().out
    items = task.read(DataSet(folder, "hub"))
    assert [str(item.video.path) for item in items if not item.video.path.exists()] == []
    assert sum(len(item.questions) for item in items) == len(asked(name, **settings))
    assert sorted(file for file in (tmp_path / "hf").rglob("*") if file.is_file()) == before  # no second copy
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    with pytest.raises(DataError, match="Its videos go to"):  # another folder has nothing to do with the caches
        task.read(DataSet(elsewhere))
