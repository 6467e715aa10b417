"""What the benchmarks ask, byte for byte, and the keys under which the authors' selection files hold a question. The
tests of the texts stand with the benchmarks and run here too, so that further cases reach them."""

from __future__ import annotations

import pytest

from tests.tasks.test_longvideobench import test_golden_prompts as test_longvideobench  # noqa: F401
from tests.tasks.test_lvbench import test_prompts_are_those_of_the_published_logs as test_lvbench  # noqa: F401
from tests.tasks.test_mlvu import test_prompts_are_those_of_the_published_code as test_mlvu  # noqa: F401
from tests.tasks.test_videomme import test_prompts_are_those_of_the_published_logs as test_videomme  # noqa: F401

from .cases import Case, find_variants


@pytest.mark.parametrize(("case", "benchmark"), find_variants("prompts", "examples"))
def test_selection_keys_are_a_video_and_a_question(case: Case, benchmark: str) -> None:
    golden = case.meta["examples"][benchmark]
    video, text = golden["video_file"], golden["sample"]["question"].split("\n(")[0]
    assert golden["selection_key"] in {f"{name}_{text}" for name in (video, video.rpartition(".")[0])}
