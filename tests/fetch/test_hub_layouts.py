"""Every benchmark as its hub repository packs it: fetched over HTTP, unpacked, and every video found by the task."""

import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.fetch.command import fetch
from evalkit.fetch.hub import HubClient
from evalkit.sources import Hub, Mini
from evalkit.tables import read_table
from evalkit.task import Task
from tests.fetch.hub_server import HubServer
from tests.foreign_logs import TASKS, mlvu, pairs

Content = dict[str, bytes]


def make(name: str, **settings: str) -> Task:
    return instantiate({"_target_": f"evalkit.tasks.{name}.{TASKS[name]}", **settings}, "task")


def mini(name: str) -> Path:
    task = make(name)
    Mini().open(task)
    return task.root


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
    task = make("charades_sta")
    task.root, task.miniature = root, True
    rows = [
        {"video": f"{item.video.id}.mp4", "caption": q.text, "timestamp": list(q.gold)}
        for item in task.items()
        for q in item.questions
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
    tables = {n: f.read_bytes() for folder in ("mcq", "multi_binary") for n, f in below(root, folder).items()}
    archives = {"videos.zip": zipped(below(root, "videos")), "subtitles.zip": zipped(below(root, "subtitles"))}
    return {"MBZUAI/VideoMathQA": {**tables, **archives}}


def mlvu_dev() -> dict[str, Content]:
    """Files in folders, one of them in two archives, as tasks share videos: all are unpacked flat."""
    root = mini("mlvu")
    asked = pairs("mlvu")
    videos = {f"anything/{item.video.path.name}": item.video.path for item, _ in asked}
    names = sorted(videos)
    return {
        "sy1998/MLVU_dev": {
            "mlvu/test-00000-of-00001.parquet": parquet([mlvu(item, q) for item, q in asked]),
            "video_part_1.zip": zipped({name: videos[name] for name in names[:4]}),
            "video_part_2.zip": zipped({f"else/{Path(name).name}": videos[name] for name in names[3:]}),
        },
        "MLVU/MVLU": {
            **{f"MLVU/{name}": file.read_bytes() for name, file in below(root, "json").items()},
            **{f"MLVU/{name}": file.read_bytes() for name, file in below(root, "video").items()},
        },
    }


LAYOUTS = [
    ("videomme", {}, videomme),
    ("videomme", {"subtitles": "true"}, videomme),
    ("lvbench", {}, lvbench),
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
    ("mlvu", {"split": "dev_generation"}, mlvu_dev),
]


@pytest.mark.parametrize(("name", "settings", "layout"), LAYOUTS)
def test_a_fetched_benchmark_finds_every_video(name, settings, layout, tmp_path, monkeypatch, capsys):
    server = HubServer(layout())
    server.revision = "video" if name == "mvbench" else "main"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("evalkit.fetch.command.HubClient", partial(HubClient, server.url))
    monkeypatch.setenv("EVALKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    named = [f"task={name}", "task.allow_missing=true", *(f"task.{key}={value}" for key, value in settings.items())]
    try:
        assert fetch(Arguments([], named, [CONFIGS])) == 0
    finally:
        server.close()
    task = make(name, **settings, allow_missing="true")
    Hub().open(task)
    items = list(task.items())
    assert [str(item.video.path) for item in items if not item.video.path.exists()] == []
    task.root, task.miniature = mini(name), True
    wanted = sum(len(item.questions) for item in task.items())
    assert sum(len(item.questions) for item in items) == wanted
    assert f"complete: {len({item.video.path for item in items})} videos, {wanted} questions" in capsys.readouterr().out
    if settings.get("subtitles"):
        assert sum(item.video.subtitles.is_file() for item in items) >= len(items) // 2
