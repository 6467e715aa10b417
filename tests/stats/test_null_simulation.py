"""The share of false alarms among equally good runs, on a part of what benchmarks/null_simulation.py does."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "null_simulation.py"))


@pytest.mark.parametrize("design", ["LVBench-like", "Video-MME-like"])
def test_five_percent_false_alarms(design: str) -> None:
    videos, per_video, spread = SIMULATION["DESIGNS"][design]
    data = SIMULATION["simulate"](videos, per_video, spread, 2000, np.random.default_rng(11))
    rates = SIMULATION["false_alarms"](*data, 1000)
    assert rates["paired cluster bootstrap"] == pytest.approx(0.05, abs=0.015)
    assert rates["both (verdict)"] <= rates["paired cluster bootstrap"]
    if design == "LVBench-like":
        assert rates["iid paired t test"] > 0.08, "the design has no video effect to be misled by"
