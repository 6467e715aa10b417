"""Fetching from a hub that is really spoken to over HTTP: cut connections, gates, full disks, hostile content."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.errors import ConfigError, DataError, RunError
from evalkit.fetch.command import fetch
from evalkit.fetch.hub import HubClient
from evalkit.provenance import revisions
from evalkit.sources import Hub
from evalkit.task import HubData
from tests.fetch.hub_server import COMMIT, HubServer
from tests.fetch.test_archives import make_tar, split, tree
from tests.helpers import CONF, ROOT
from tests.toy import Toy, write_toy

NEW, OLD = "new-org/toy", "old-org/toy"
HUB = HubData((NEW, OLD), "toy")


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> dict[str, bytes]:
    """The toy benchmark as a hub would have it: a table, two zips of videos, junk."""
    toy = write_toy(tmp_path_factory.mktemp("toy"))
    videos = sorted((toy / "videos").iterdir())
    return {
        "questions.jsonl": (toy / "questions.jsonl").read_bytes(),
        "part_1.zip": zipped(videos[:2]),
        "part_2.zip": zipped(videos[2:]),
        "README.md": b"# Toy",
        ".gitattributes": b"*.zip lfs",
    }


def zipped(files: list[Path], folder: str = "videos/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in files:
            archive.write(file, folder + file.name)
    return buffer.getvalue()


@pytest.fixture
def hub(content, monkeypatch, tmp_path):
    """A hub with the toy benchmark, evalkit pointed at it, and a data folder of this test's own."""
    server = HubServer({NEW: dict(content)})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("evalkit.fetch.command.HubClient", partial(HubClient, server.url))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    monkeypatch.setattr(Toy, "hub", HUB)
    monkeypatch.setenv("EVALKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "")
    yield server
    server.close()


def run(*settings: str) -> int:
    return fetch(Arguments([], ["task=toy", "plugins=[tests]", *settings], [CONFIGS, CONF]))


def fetched(tmp_path: Path) -> dict[str, bytes]:
    """What is below the data folder, without what begins with a dot."""
    return {n: c for n, c in tree(tmp_path / "data" / "toy").items() if not any(p[0] == "." for p in Path(n).parts)}


def test_a_fetched_benchmark_is_complete_and_loads(hub, tmp_path, capsys):
    assert run() == 0
    task = Toy()
    data = Hub().open(task)
    assert len(task.read(data)) == 4
    assert {"questions.jsonl", "part_1.zip", "videos/v0.mp4", "videos/v3.mp4"} <= fetched(tmp_path).keys()
    assert ".gitattributes" not in tree(tmp_path / "data" / "toy")
    assert list(revisions(data.root).values()) == [COMMIT]  # for the manifest of a run on it
    said = capsys.readouterr().out
    assert (
        said.index("to download") < said.index("unpacking part_1.zip") < said.index("complete: 4 videos, 12 questions")
    )


def test_a_second_fetch_downloads_nothing(hub, tmp_path, capsys):
    run()
    hub.requests.clear()
    assert run() == 0
    assert hub.downloads() == []
    assert "all of it is at" in capsys.readouterr().out


def test_a_dry_run_shows_the_size_and_leaves_nothing(hub, tmp_path, capsys):
    assert run("dry_run=true") == 0
    said = capsys.readouterr().out
    size = sum(len(c) for name, c in hub.repos[NEW].items() if name != ".gitattributes")
    assert f"4 files, {size / 1000:.1f} kB" in said
    assert "are free" in said
    assert hub.downloads() == []
    assert not (tmp_path / "data").exists()


def test_archives_can_be_deleted_and_are_not_fetched_again(hub, tmp_path):
    run("keep_archives=false")
    assert not [name for name in fetched(tmp_path) if name.endswith(".zip")]
    assert "videos/v3.mp4" in fetched(tmp_path)
    hub.requests.clear()
    run("keep_archives=false")
    assert hub.downloads() == []


def test_a_deleted_video_comes_back(hub, tmp_path):
    run("keep_archives=false")
    (tmp_path / "data" / "toy" / "videos" / "v3.mp4").unlink()
    hub.requests.clear()
    assert run("keep_archives=false") == 0
    assert [path for path, _ in hub.downloads()] == ["part_2.zip"]
    assert "videos/v3.mp4" in fetched(tmp_path)


@pytest.mark.parametrize("more", [b"", bytes(1000)], ids=["same size", "longer"])
def test_an_archive_that_changed_is_unpacked_again(more, hub, tmp_path):
    run()
    videos = tmp_path / "data" / "toy" / "videos"
    changed = tmp_path / "v0.mp4"
    changed.write_bytes((videos / "v0.mp4").read_bytes()[:-4] + b"new!" + more)
    hub.repos[NEW]["part_1.zip"] = zipped([changed, videos / "v1.mp4"])
    assert run() == 0
    assert fetched(tmp_path)["videos/v0.mp4"] == changed.read_bytes()


@pytest.mark.parametrize("flat", [False, True])
def test_split_tars_are_never_joined_on_the_disk(flat, hub, content, tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "hub", HubData((NEW,), "toy", flat=flat))
    parts = split(
        make_tar(tmp_path / "videos.tar", {f"videos/{i}.mp4": os.urandom(9000) for i in range(3)}), [10000, 9000]
    )
    hub.repos[NEW] = {"questions.jsonl": content["questions.jsonl"], **{p.name: p.read_bytes() for p in parts}}
    run("dry_run=false", "task.allow_missing=true")
    names = fetched(tmp_path).keys()
    assert {f"{'' if flat else 'videos/'}{i}.mp4" for i in range(3)} <= names
    assert "videos.tar" not in names
    assert {p.name for p in parts} <= names


def test_the_tenth_part_comes_after_the_ninth(hub, content, tmp_path):
    whole = make_tar(tmp_path / "videos.tar", {f"videos/{i}.mp4": os.urandom(9000) for i in range(3)}).read_bytes()
    parts = {f"videos.tar.part{i + 1}": whole[3000 * i : 3000 * (i + 1)] for i in range(len(whole) // 3000 + 1)}
    assert len(parts) > 10
    hub.repos[NEW] = {"questions.jsonl": content["questions.jsonl"], **parts}
    run("task.allow_missing=true")
    assert {f"videos/{i}.mp4" for i in range(3)} <= fetched(tmp_path).keys()


def test_the_old_name_of_an_organisation_is_tried_after_the_new_one(hub, content, tmp_path):
    hub.repos = {OLD: content}
    assert run() == 0
    asked = [path for _, path, _ in hub.requests if "/revision/" in path]
    assert [NEW in path for path in asked] == [True, False]


def test_a_branch_and_further_repositories(hub, content, tmp_path, monkeypatch):
    hub.revision = "video"
    hub.repos["official/toy"] = {"extra.json": b"[]", "README.md": b"other"}
    also = HubData(("official/toy",), "toy", revision="video", files=("*.json",))
    monkeypatch.setattr(Toy, "hub", HubData((NEW,), "toy", revision="video", files=("*.jsonl", "*.zip"), also=(also,)))
    assert run() == 0
    assert {"extra.json", "videos/v0.mp4"} <= fetched(tmp_path).keys()
    assert "README.md" not in fetched(tmp_path)


def test_an_interrupted_download_goes_on_where_it_stopped(hub, content, tmp_path):
    class Dies(dict):
        """The connection breaks once; from then on the hub answers nothing but 503."""

        def get(self, path, default=None):
            if path in self:
                hub.down = 503
                return 700
            return default

    hub.cut = Dies({"part_2.zip": 700})
    with pytest.raises(DataError, match=r"the hub answers 503 for new-org/toy.*goes on where it stopped"):
        run()
    hub.down, hub.cut = None, {}
    hub.requests.clear()
    assert run() == 0
    assert hub.downloads() == [("part_2.zip", "bytes=700-")]
    assert fetched(tmp_path)["part_2.zip"] == content["part_2.zip"]


def test_a_file_that_comes_damaged_is_not_kept(hub, content, tmp_path, monkeypatch):
    true = content["part_1.zip"]
    hub.content_of = {"part_1.zip": true[:500] + bytes(100) + true[600:]}
    with pytest.raises(DataError, match=r"part_1\.zip of new-org/toy came damaged"):
        run()
    hub.content_of = {}
    assert run() == 0
    assert fetched(tmp_path)["part_1.zip"] == true


def test_a_table_that_changed_at_the_same_size_is_fetched_again(hub, content, tmp_path):
    run()
    changed = content["questions.jsonl"].replace(b'"answer": "A"', b'"answer": "B"')
    hub.repos[NEW]["questions.jsonl"] = changed
    assert run() == 0
    assert fetched(tmp_path)["questions.jsonl"] == changed


def test_a_broken_connection_is_resumed_by_itself(hub, content, tmp_path):
    hub.cut = {"part_1.zip": 900}  # 900 bytes at a time
    assert run() == 0
    spans = [span for path, span in hub.downloads() if path == "part_1.zip"]
    assert spans[:3] == [None, "bytes=900-", "bytes=1800-"]
    assert fetched(tmp_path)["part_1.zip"] == content["part_1.zip"]


def test_an_interrupted_unpacking_goes_on_without_a_download(hub, content, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full_disk_after(3))
        with pytest.raises(DataError, match=r"part_2\.zip cannot be unpacked to .* \(No space left on"):
            run()
    assert "videos/v2.mp4" not in fetched(tmp_path) or "videos/v3.mp4" not in fetched(tmp_path)
    hub.requests.clear()
    assert run() == 0
    assert hub.downloads() == []


def full_disk_after(files: int):
    left = [files]
    copy = shutil.copyfileobj

    def write(source, target, length=0):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        copy(source, target, length)

    return write


def test_a_gated_repository_names_its_page_and_what_to_do(hub, monkeypatch):
    monkeypatch.setattr(Toy, "hub", HubData((NEW,), "toy", gated=True))
    hub.gated = {NEW}
    with pytest.raises(DataError) as caught:
        run("dry_run=true")
    said = str(caught.value)
    assert all(word in said for word in (f"https://huggingface.co/datasets/{NEW}", "huggingface-cli login", "HF_TOKEN"))


def test_a_gate_that_nobody_knew_of_is_found_at_the_first_file(hub):
    hub.gated = {NEW}
    with pytest.raises(DataError, match=r"is gated\. Accept its terms"):
        run()


def test_a_missing_repository_names_all_that_were_tried(hub):
    hub.repos = {}
    with pytest.raises(DataError, match="the hub has no dataset new-org/toy or old-org/toy"):
        run()


def test_a_missing_branch(hub, monkeypatch):
    monkeypatch.setattr(Toy, "hub", HubData((NEW,), "toy", revision="video"))
    with pytest.raises(DataError, match=r"has no such revision any more: see https://.*/new-org/toy"):
        run()


def test_a_token_that_is_not_valid(hub, monkeypatch):
    hub.down = 403
    with pytest.raises(DataError, match=r"refuses access to new-org/toy \(403\): the token"):
        run()


@pytest.mark.parametrize("status", [None, 403, 500])
def test_the_token_is_never_shown_or_kept(status, hub, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.down = status
    try:
        run()
    except DataError as error:
        print(error)
    assert any(token == "Bearer hf_secretsecretsecret" for token in hub.tokens)
    shown = capfd.readouterr()
    assert "secretsecret" not in shown.out + shown.err
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"secretsecret" in p.read_bytes()]


def test_no_network(hub, monkeypatch):
    hub.close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    with pytest.raises(DataError, match=r"cannot be reached for new-org/toy .*Is there a network\?"):
        run()


def test_offline_mode(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set: unset it"):
        run()
    assert hub.requests == []


def free(monkeypatch, amount: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": amount, "total": 10**9, "used": 0}))


def test_too_little_room_is_found_before_anything_is_downloaded(hub, content, monkeypatch, tmp_path):
    free(monkeypatch, 1000)
    with pytest.raises(
        DataError, match=r"needs about .* has 1\.0 kB free: make room.*EVALKIT_DATA.*Nothing was downloaded"
    ):
        run()
    assert hub.downloads() == []
    assert not (tmp_path / "data").exists()


def test_room_for_the_videos_but_not_for_the_archives_beside_them(hub, content, monkeypatch):
    archives = [len(content["part_1.zip"]), len(content["part_2.zip"])]
    rest = len(content["questions.jsonl"]) + len(content["README.md"])
    enough_without = sum(archives) + max(archives) + rest
    free(monkeypatch, enough_without)
    with pytest.raises(DataError, match="add keep_archives=false, make room"):
        run()
    assert run("keep_archives=false") == 0


def test_what_is_there_already_needs_no_room(hub, monkeypatch):
    run()
    free(monkeypatch, 0)
    assert run() == 0


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/tmp/evalkit-evil.json", "a/../../evil.json", "..\\evil.json", "C:evil.json", "a//evil.json"],
)
def test_a_listing_cannot_name_files_outside(name, hub, tmp_path):
    hub.repos[NEW][name] = b"evil"
    with pytest.raises(DataError, match="would be written outside"):
        run()
    assert not list(tmp_path.rglob("*evil*"))
    assert hub.downloads() == []


@pytest.mark.parametrize("kind", ["lfs", "blob"])
@pytest.mark.parametrize("digest", ["{victim}", "../../{name}", "", "0" * 39, "G" * 40, "0" * 63 + "/", None, 7])
def test_a_digest_is_never_a_path(kind, digest, hub, tmp_path, content):
    """The digest of a file names the file of its partial download: a path there could be appended to, or deleted."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    digest = digest.format(victim=victim, name="victim") if isinstance(digest, str) else digest
    hub.entry_of["questions.jsonl"] = (
        {"oid": digest} if kind == "blob" else {"lfs": {"oid": digest, "size": 9, "pointerSize": 9}}
    )
    with pytest.raises(DataError, match="which is none"):
        run()
    assert victim.read_bytes() == b"mine"
    assert hub.downloads() == []


@pytest.mark.parametrize("size", [-1, "many", 1.5, None])
def test_a_size_is_a_number_of_bytes(size, hub):
    hub.entry_of["questions.jsonl"] = {"size": size}
    with pytest.raises(DataError, match=r"gives 'questions.jsonl' the size"):
        run()


def test_a_listing_that_is_malformed(hub):
    hub.entry_of["part_1.zip"] = {"lfs": {"oid": "0" * 64}}
    with pytest.raises(DataError, match=r"listing of new-org/toy is malformed"):
        run()


def test_a_hub_cannot_send_more_than_it_lists(hub, tmp_path):
    hub.content_of["questions.jsonl"] = bytes(1_000_000)
    with pytest.raises(DataError, match="sends more than the"):
        run()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 100_000]


def test_a_repository_cannot_replace_the_notes_beside_the_data(hub, tmp_path):
    hub.repos[NEW] |= {".fetched.json": b"{}", ".fetching/x": b"x", "a/.hidden.json": b"[]"}
    assert run() == 0
    assert not {".fetching/x", "a/.hidden.json"} & tree(tmp_path / "data" / "toy").keys()
    assert (tmp_path / "data" / "toy" / ".fetched.json").read_bytes() != b"{}"


def test_a_link_out_of_the_folder_is_not_followed(hub, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "extra").symlink_to(tmp_path / "outside")
    hub.repos[NEW]["extra/evil.json"] = b"[]"
    with pytest.raises(DataError, match="leads outside"):
        run()
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "\u00e9" * 128 + "/b.json"])
def test_a_name_that_no_file_can_have(name, hub):
    hub.repos[NEW][name] = b"[]"
    with pytest.raises(DataError, match="a name that no file can have"):
        run()


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}/data", "{name}"])
def test_a_folder_that_cannot_be_used(place, hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVALKIT_DATA", place.format(file=tmp_path / "file", name=tmp_path / ("x" * 300)))
    with pytest.raises(DataError, match="EVALKIT_DATA"):
        run()


@pytest.mark.parametrize("table", [b"\x1f\x8b\x08 no gzip", b"[" * 100_000, b'{"id": "\\ud800"}\n', b"\xff\xfe\x00"])
def test_tables_that_cannot_be_read_are_named(table, hub, capsys):
    hub.repos[NEW]["questions.jsonl"] = table
    assert run() == 1
    assert "not complete yet" in (said := capsys.readouterr().out) and "questions.jsonl" in said


def test_an_archive_cannot_write_outside(hub, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.mp4", b"evil")
    hub.repos[NEW]["part_9.zip"] = buffer.getvalue()
    with pytest.raises(DataError, match="would be written outside"):
        run()
    assert not list(tmp_path.rglob("*evil*"))


def test_what_is_to_be_got_by_hand_is_said(hub, content, monkeypatch, capsys, tmp_path):
    by_hand = "The videos: write to the authors, unpack to videos/."
    monkeypatch.setattr(Toy, "hub", HubData((NEW,), "toy", by_hand=by_hand))
    hub.repos[NEW] = {"questions.jsonl": content["questions.jsonl"]}
    assert run() == 0
    said = capsys.readouterr().out
    assert f"by hand, into {tmp_path / 'data' / 'toy'}:\n  {by_hand}" in said
    assert "not complete yet" in said


def test_a_copy_that_is_short_exits_1(hub, content, capsys):
    del hub.repos[NEW]["part_2.zip"]
    assert run() == 1
    assert "not complete yet: Toy Videos (test): 2 of 4 videos are missing" in capsys.readouterr().out


@pytest.fixture(params=["toy", "datasets/toy"])
def unpacked_by_lmms_eval(request, hub, tmp_path) -> Path:
    """The videos below $HF_HOME, without any table: lmms-eval unpacks only the archives."""
    folder = write_toy(tmp_path / "hf" / request.param)
    (folder / "questions.jsonl").unlink()
    return folder


def test_videos_of_another_harness_are_kept_and_only_tables_are_fetched(unpacked_by_lmms_eval, hub, tmp_path, capsys):
    folder = unpacked_by_lmms_eval
    before = {path: path.stat().st_mtime_ns for path in (folder / "videos").iterdir()}
    assert run("dry_run=true") == 0
    assert hub.downloads() == []
    assert not (folder / "questions.jsonl").exists()
    assert run() == 0
    assert sorted(path for path, _ in hub.downloads()) == ["README.md", "questions.jsonl"]
    assert not (tmp_path / "data").exists()
    assert {path: path.stat().st_mtime_ns for path in (folder / "videos").iterdir()} == before
    assert "complete: 4 videos, 12 questions" in capsys.readouterr().out
    hub.requests.clear()
    assert run() == 0
    assert hub.requests == []
    assert "nothing was fetched" in capsys.readouterr().out


def test_a_copy_of_another_harness_that_lacks_videos(unpacked_by_lmms_eval, hub, tmp_path, capsys):
    (unpacked_by_lmms_eval / "videos" / "v3.mp4").unlink()
    assert run() == 1
    said = capsys.readouterr().out
    assert "1 of 4 videos are missing" in said and f"below {tmp_path / 'data'}, repeat with force=true" in said
    assert run("force=true") == 0
    assert "videos/v3.mp4" in fetched(tmp_path)


def test_an_empty_folder_is_no_copy_of_another_harness(hub, tmp_path):
    (tmp_path / "hf" / "toy").mkdir(parents=True)
    assert run() == 0
    assert "videos/v0.mp4" in fetched(tmp_path)


def test_two_at_once(hub, tmp_path):
    from filelock import FileLock

    (tmp_path / "data" / "toy").mkdir(parents=True)
    with FileLock(str(tmp_path / "data" / "toy" / ".fetching.lock")), pytest.raises(RunError, match="another process"):
        run()


def test_a_damaged_diary_says_so(hub, tmp_path):
    (tmp_path / "data" / "toy").mkdir(parents=True)
    for damage in ("{", "[]", '{"a": 1}', '{"a": {"files": {"x": "many"}}}'):
        (tmp_path / "data" / "toy" / ".fetched.json").write_text(damage)
        with pytest.raises(DataError, match="delete it, and the archives are unpacked again"):
            run()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["dry_run=maybe"], "choose true or false"),
        (["keep=false"], 'there is no setting "keep"'),
        (["source=local"], "leave out source="),
        (["task.split=dev"], "has no such split"),
    ],
)
def test_mistakes(settings, words, hub):
    with pytest.raises(ConfigError, match=words):
        run(*settings)


def test_a_benchmark_without_a_hub_copy(hub, monkeypatch):
    monkeypatch.setattr(Toy, "hub", None)
    with pytest.raises(ConfigError, match=r"the hub has no copy of Toy Videos.*source\.root"):
        run()


@pytest.fixture
def vnbench(tmp_path):
    """A hub with VNBench, whose annotations are on the hub and whose videos are not; and its command as typed."""
    row = {"video": "./VNBench/x_cnt_edit1.mp4", "question": "How many?", "options": [1, 2, 3, 4], "gt": 1}
    rows = [{**row, "needle_time": [1], "length": 10, "type": "cnt_edit1", "try": i} for i in range(4)]
    table = json.dumps(rows).encode() + b" " * 25_000_000
    server = HubServer({"videoniah/VNBench": {"VNBench-main-4try.json": table}})
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "EVALKIT_DATA": str(tmp_path)}
    environment |= {"HF_HOME": str(tmp_path / "hf")}

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "evalkit.fetch", *words]
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, cwd=ROOT, env=environment, **out)

    yield server, start
    server.close()


def test_the_command_as_typed(vnbench, tmp_path):
    _, start = vnbench
    process = start("task=vnbench")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (tmp_path / "vnbench" / "VNBench-main-4try.json").is_file()
    assert "Google Drive" in out and "VNBench_new" in out
    assert start("--help").communicate(timeout=60)[0].startswith("Download a benchmark")


def test_a_killed_fetch_goes_on_where_it_stopped(vnbench, tmp_path):
    server, start = vnbench
    table = server.repos["videoniah/VNBench"]["VNBench-main-4try.json"]
    server.hang = {"VNBench-main-4try.json": 22_000_000}
    begun = tmp_path / "vnbench" / ".fetching"
    process = start("task=vnbench")
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size >= 20_000_000 for file in begun.glob("*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    server.hang = {}
    server.requests.clear()
    process = start("task=vnbench")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    ((path, span),) = server.downloads()
    assert int(span.removeprefix("bytes=").rstrip("-")) >= 20_000_000, path
    assert (tmp_path / "vnbench" / path).read_bytes() == table
