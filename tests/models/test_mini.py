"""The miniature checkpoint: the same bytes everywhere, whole or not there, and shaped as the released model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from evalkit.models.videoxl2 import VideoXL2Mini, mini
from evalkit.models.videoxl2.checkpoint import load
from evalkit.types import Context, Decoding, Prompt, Video
from evalkit.video.reader import FrameReader
from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video


def digests(place: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(place.iterdir())}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    return tmp_path


def test_the_same_bytes_in_another_process(cache: Path) -> None:
    place = mini.folder()
    other = cache / "other"
    code = (
        "from evalkit.models.videoxl2.mini import folder; torch = __import__('torch'); torch.randn(3); print(folder())"
    )
    environment = os.environ | {"EVALKIT_CACHE": str(other), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, env=environment, cwd=Path(__file__).parents[2]
    )
    assert digests(Path(run.stdout.decode().strip())) == digests(place)


def test_made_once_and_moved_into_place_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: Path) -> None:
        (place / "half").write_text("")
        raise RuntimeError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(mini, "write", fail)
        with pytest.raises(RuntimeError):
            mini.folder()
    assert list((cache / "models").iterdir()) == []
    place = mini.folder()
    assert list((cache / "models").iterdir()) == [place]
    monkeypatch.setattr(mini, "write", fail)
    assert mini.folder() == place


def test_another_process_was_faster(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = mini.write

    def slow(place: Path) -> None:
        monkeypatch.setattr(mini, "write", write)
        mini.folder()
        write(place)

    monkeypatch.setattr(mini, "write", slow)
    place = mini.folder()
    assert list((cache / "models").iterdir()) == [place]
    assert (place / "config.json").is_file()


def test_published_layout_in_shards(cache: Path) -> None:
    place = mini.folder()
    index = json.loads((place / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) >= 2 and all((place / shard).is_file() for shard in shards)
    assert json.loads((place / "config.json").read_text())["model_type"] == "llava_qwen"


def test_shapes_are_those_of_the_released_model(cache: Path) -> None:
    loaded = load(mini.folder(), dtype=torch.float32, device=torch.device("cpu"))
    assert loaded.vision.tower.embeddings.position_embedding.weight.shape[0] == 27 * 27
    assert len(loaded.vision.tower.encoder.layers) == loaded.config.vision.num_hidden_layers - 1
    frames = torch.randint(0, 256, (6, 384, 384, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tokens = loaded.vision.encode(frames)
    assert tokens.shape == (2, 144, loaded.config.language.hidden_size)
    # about as large as the embedded text beside them, so that neither drowns the other
    assert 0.3 < tokens.std() / loaded.decoder.embed_tokens.weight.std() < 3
    assert (tokens[0] - tokens[1]).norm() / tokens[0].norm() > 0.1


def test_replies_are_option_letters_that_depend_on_video_and_question(cache: Path) -> None:
    settings = VideoXL2Mini()
    model = settings.build()
    timelines = [
        [Scene(0, 2, "red"), Scene(2, 4, "blue", square="green")],
        [Scene(0, 4, "yellow", text="7")],
        [Scene(0, 1, "white"), Scene(1, 4, "black", square="red")],
        [Scene(0, 4, "green", square="white")],
    ]
    questions = [
        "What colour is the car?\n(A) red\n(B) blue\n(C) green\n(D) black\nOnly give the best option.",
        "Why does the man leave?\nA. tired\nB. hungry\nC. late\nD. ill\nAnswer with the option's letter.",
        "How many dogs are there?\nA. 1\nB. 2\nC. 3\nD. 4",
        "Who sings?",
        "Where is the lamp at 00:02?\n(A) desk\n(B) floor",
    ]
    replies: list[list[str]] = []
    with FrameReader() as reader:
        for number, timeline in enumerate(timelines):
            video = Video(str(number), cache / f"{number}.mp4")
            write_video(video.path, film(timeline, fps=8.0), fps=8.0)
            context = Context(video, reader.open(video, settings.frames_wanted()))
            prefilled = model.prefill(context)
            answers = [model.generate(prefilled, Prompt(question), Decoding()) for question in questions]
            assert all(answer.finish == "stop" for answer in answers)
            replies.append([answer.text for answer in answers])
    assert {reply for row in replies for reply in row} <= set(mini.LETTERS)
    assert any(len(set(row)) > 1 for row in replies), "the question makes no difference"
    assert any(len(set(column)) > 1 for column in zip(*replies, strict=True)), "the video makes no difference"
