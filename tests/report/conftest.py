"""A results folder with its pages, made once, and a browser where there is one."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit.report.command import main

from .made import SMALL, gallery


@dataclass(frozen=True)
class Pages:
    results: Path
    runs: list[Path]

    @property
    def leaderboard(self) -> str:
        return (self.results / "leaderboard.html").read_text(encoding="utf-8")

    def run(self, path: Path) -> Path:
        """The page of a run."""
        return page_of(self.results, path)


def page_of(results: Path, run: Path) -> Path:
    """The page of a run with all its questions."""
    return results / "samples" / run.relative_to(results) / "index.html"


def unpacked(page: Path) -> tuple[list[Any], list[Any]]:
    """What a page holds: (name, questions) of each video as the list has them, and the contents of each video."""
    text = page.read_text(encoding="utf-8")
    found = []
    for kind in ("rows", "full"):
        blocks = re.findall(rf'<script type="text/plain" class="{kind}">([^<]*)</script>', text)
        found.append([video for block in blocks for video in json.loads(gzip.decompress(b64decode(block)))])
    return found[0], found[1]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    results = tmp_path_factory.mktemp("results")
    runs = gallery(results, SMALL)
    assert main([str(results)]) == 0
    return Pages(results, runs)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Selenium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()
