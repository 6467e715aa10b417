"""Kernels are tried before they are trusted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from evalkit.errors import ConfigError
from evalkit.models.shared.attention import Eager, Kernel, SdpaCpu, kernel, verified

CPU = torch.device("cpu")


class StartAligned(Eager):
    """Causal masks aligned at the start: what a fused kernel of another version might do."""

    aligns_at_end = True

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        if causal:
            k, v = k[:, : q.shape[1]], v[:, : q.shape[1]]
        return super().__call__(q, k, v, causal)


class OtherLog(Eager):
    """The log-sum-exp to base two."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        out, lse = super().__call__(q, k, v, causal)
        return out, lse / torch.log(torch.tensor(2.0))


class Refuses(Eager):
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no kernel image is available\nfor this device")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernels_of_this_machine_are_right(dtype: torch.dtype) -> None:
    assert isinstance(kernel("sdpa", CPU, dtype), SdpaCpu)
    assert isinstance(kernel("eager", CPU, dtype), Eager)


@pytest.mark.parametrize("wrong", [StartAligned(), OtherLog()])
def test_a_kernel_that_computes_something_else_is_refused(wrong: Kernel) -> None:
    with pytest.raises(ConfigError, match=r"something else than attention .*use model\.attention=eager"):
        verified(wrong, "sdpa", CPU, torch.float32)


def test_a_kernel_that_does_not_run_is_named() -> None:
    with pytest.raises(ConfigError, match=r"does not run on cpu .*no kernel image is available Use"):
        verified(Refuses(), "flex", CPU, torch.float32)
