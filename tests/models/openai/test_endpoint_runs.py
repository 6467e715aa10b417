"""Whole runs with model=openai against a real HTTP server: what is kept, what stops a run, and what continues it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.clients.endpoint import ChatError
from evalkit.dry_run.forecast import forecast
from evalkit.dry_run.text import lines
from evalkit.errors import RunError
from evalkit.runs.lines import read_lines
from evalkit.types import Record
from tests.clients.endpoint import Endpoint, completion
from tests.helpers import CONF, only_run, run_here, toy_arguments
from tests.toy import COLOURS, write_toy

from .conftest import OK, USAGE
from .frames_in_memory import images

KEY = "sk-very-secret-0123456789"
PRICE = ["model.price.input=2.5", "model.price.output=10"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), videos=3, questions=2)


def arguments(data: Path, results: Path, url: str, *more: str) -> list[str]:
    words = toy_arguments(data, results, "task.allow_missing=true", "min_coverage=0", "model.frames.max=2", *more)
    words += [f"model.base_url={url}", "model.model=m-7b", "model.retries=0"]
    return ["model=openai" if word == "model=scripted" else word for word in words]


def records(results: Path) -> list[Record]:
    return read_lines(only_run(results) / "records.jsonl")[0]


def manifest(results: Path) -> dict[str, Any]:
    return dict(json.loads((only_run(results) / "manifest.json").read_text()))


def seen_colour(image: Image.Image) -> str:
    pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue"}.get(tuple(int(v > 100) for v in pixel), "white")


def test_a_model_that_looks_at_the_frames_answers_right(data: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    def look(body: dict[str, Any]) -> bytes:
        return completion("ABCD"[COLOURS.index(seen_colour(images(body)[0]))], usage=USAGE, model="m-7b-2026")

    endpoint.reply = look
    assert run_here(arguments(data, tmp_path, endpoint.url, *PRICE, "model.frames.longest_side=32")) == 0
    assert {image.size for request in endpoint.requests for image in images(request)} == {(32, 24)}
    found = records(tmp_path)
    assert [r.reply for r in found] == ["A", "A", "B", "B", "C", "C"], "red, green and blue, whatever came back first"
    assert {r.status for r in found} == {"ok"}
    assert found[0].tokens == {"prompt": 1000, "new": 10} and found[0].finish == "stop"
    assert found[0].details == {"model": "m-7b-2026", "dollars": 0.0026}
    assert found[0].seconds["question"] > 0 and found[0].ttft is None
    efficiency = json.loads((only_run(tmp_path) / "summary.json").read_text())["efficiency"]
    assert (efficiency["prefills"], efficiency["frames"]) == (0, 2)
    assert efficiency["dollars"] == pytest.approx(6 * 0.0026)
    header, row = (tmp_path / "efficiency.csv").read_text().splitlines()
    assert row.split(",")[header.split(",").index("dollars")].startswith("0.0156")
    served = {"id": "m-7b", "owned_by": "vllm", "root": "me/m-7b", "max_model_len": 32768}
    assert manifest(tmp_path)["weights"] == {"base_url": endpoint.url, "model": "m-7b", "served": served}


def test_a_run_is_not_continued_with_another_served_model(data: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    assert run_here(arguments(data, tmp_path, endpoint.url, "limit=2")) == 0
    assert endpoint.models is not None
    endpoint.models[0]["root"] = "me/another"
    with pytest.raises(RunError, match="begun with other weights"):
        run_here(arguments(data, tmp_path, endpoint.url))
    endpoint.models[0] |= {"root": "me/m-7b", "created": 2}  # vLLM's `created` is the time of the request
    assert run_here(arguments(data, tmp_path, endpoint.url)) == 0
    assert len(endpoint.requests) == 6


def test_what_failed_is_asked_again_by_the_next_command(data: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    words = arguments(data, tmp_path, endpoint.url, "limit=2", "model.concurrency=1")
    endpoint.script = [(500, b"oops", {}), OK]
    assert run_here(words) == 0
    first, second = records(tmp_path)
    assert (first.status, second.status) == ("failed", "ok")
    assert first.error is not None and "HTTP 500: oops" in first.error["message"]
    assert run_here(words) == 0
    assert {r.status for r in records(tmp_path)} == {"ok"}
    endpoint.shutdown()
    endpoint.server_close()
    assert run_here(words) == 0, "a finished run is shown again, although the server is gone"
    with pytest.raises(ChatError, match=r"Check model\.base_url and the server"):
        run_here(arguments(data, tmp_path, endpoint.url))


def test_a_missing_key_stops_before_any_video_is_read(
    data: Path, tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_ENDPOINT_KEY", raising=False)
    with pytest.raises(ChatError, match="set the environment variable MY_ENDPOINT_KEY"):
        run_here(arguments(data, tmp_path, endpoint.url, "model.api_key_env=MY_ENDPOINT_KEY"))
    assert endpoint.requests == []


def test_a_key_that_is_refused_stops_the_run_and_is_written_nowhere(
    data: Path, tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ENDPOINT_KEY", KEY)
    endpoint.script = [(401, f"wrong key {KEY}".encode(), {})]
    words = arguments(data, tmp_path, endpoint.url, "model.api_key_env=MY_ENDPOINT_KEY", "model.concurrency=1")
    with pytest.raises(RunError, match="401") as error:
        run_here(words)
    assert KEY not in str(error.value)
    assert len(endpoint.requests) == 1, "a client that was refused asks no more"
    endpoint.script = [OK]
    assert run_here(words) == 0
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert written and not any(KEY.encode() in file.read_bytes() for file in written)


def test_the_spending_limit_stops_the_run_and_is_not_in_its_key(data: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    words = arguments(data, tmp_path, endpoint.url, *PRICE, "model.concurrency=1")
    with pytest.raises(RunError, match=r"have cost \$0\.0052, and model\.max_dollars is 0\.005"):
        run_here([*words, "model.max_dollars=0.005"])
    assert len(endpoint.requests) == 2, "$0.0026 each"
    assert run_here(words) == 0
    assert len(endpoint.requests) == 6


def planned(words: list[str]) -> dict[str, Any]:
    return forecast(job.plan(compose([*words, "dry_run=true"], [CONFIGS, CONF]))).plain()


def test_the_dry_run_tells_tokens_and_dollars_without_a_request(data: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    price = ["model.price.input=2", "model.price.output=8"]
    unknown = planned(arguments(data, tmp_path, endpoint.url, *price))
    assert unknown["dollars"] is None
    assert any("set model.tokens_per_frame" in value for _, value in lines(unknown))
    known = planned(arguments(data, tmp_path, endpoint.url, *price, "model.tokens_per_frame=500"))
    tokens = known["prompt_tokens"]
    assert known["visual_tokens"] == 1000 and 1010 < tokens < 1050
    assert known["dollars"] == pytest.approx(6 * (tokens * 2 + 16 * 8) / 1e6)
    assert ("dollars", f"at most ${known['dollars']:.3g}") in lines(known)
    assert endpoint.requests == [] and endpoint.keys == []
