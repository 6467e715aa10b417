"""Frame indices and times of the rule `video_xl_2`, against golden results."""

from __future__ import annotations

import pytest

from evalkit.errors import EvalkitError, VideoError
from evalkit.types import FramePlan, FrameRequest
from evalkit.video.sampling import sample

from .cases import Case, find_variants


@pytest.mark.parametrize(("case", "row"), find_variants("frame_sampling", "rows"))
@pytest.mark.parametrize("setting", ["chunked", "pure"])
def test_indices_and_times(case: Case, row: int, setting: str) -> None:
    golden = case.meta["rows"][row]

    def plan() -> FramePlan:
        request = FrameRequest(
            rule="video_xl_2",
            max_frames=golden["max_frames"],
            fps=golden["fps"],
            # without a higher rate to go to, the second sampling does not take place
            max_fps=golden["fps"] if golden["max_fps"] is None else golden["max_fps"],
            multiple_of=4 if setting == "pure" else 1,
        )
        return sample(request, golden["total_frames"], golden["native_fps"])

    if "pure_keeps_the_first" not in golden:
        # the original crashes or gives no frames; here it is a clear error
        assert golden[setting].keys() & {"fails", "no_frames"}
        with pytest.raises(EvalkitError):
            plan()
        return
    kept = golden["pure_keeps_the_first"] if setting == "pure" else len(golden["chunked"]["indices"])
    if kept == 0:
        with pytest.raises(VideoError) as error:
            plan()
        assert error.value.kind == "too_short"
        return
    assert list(plan().indices) == golden["chunked"]["indices"][:kept]
    assert list(plan().times_s) == golden["chunked"]["timestamps"][:kept]
