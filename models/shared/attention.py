"""Attention kernels that also return the log-sum-exp of each row, so that the parts of a history can be attended to
where they lie and merged exactly (online softmax), with no mask and no concatenation.

A kernel maps q `[heads, n, d]`, k and v `[kv heads, m, d]` to the output `[heads, n, d]` and its log-sum-exp
`[heads, n]` in float32. With `causal`, row i of n sees keys up to m - n + i (aligned at the end).
"""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from evalkit.errors import ConfigError, install_hint, suggest

Part = tuple[Tensor, Tensor]
"""Rotated keys and values `[kv heads, m, d]`."""

ATTENTION = ("sdpa", "eager", "flash_attention_2", "flex")


class Kernel(ABC):
    """`aligns_at_end`: computes causal attention with more keys than queries in one call."""

    aligns_at_end = False

    @abstractmethod
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]: ...

    def __repr__(self) -> str:
        return type(self).__name__


def fold(q: Tensor, kv_heads: int) -> Tensor:
    """Put the query heads that share a key head below each other: `[heads, n, d]` -> `[1, kv heads, heads/kv * n, d]`.
    Without a mask that is the same attention, and keys are never repeated."""
    return q.reshape(1, kv_heads, -1, q.shape[-1])


def repeat(x: Tensor, heads: int) -> Tensor:
    """`[kv heads, m, d]` -> `[1, heads, m, d]`."""
    return x.repeat_interleave(heads // x.shape[0], dim=0)[None]


class Eager(Kernel):
    """Plain matrix products in float32: slow, and simple to check."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        heads, n, d = q.shape
        folded = fold(q, k.shape[0])[0].float()
        scores = folded @ k.float().transpose(-1, -2) / math.sqrt(d)
        if causal:
            m = k.shape[1]
            hidden = torch.ones(n, m, dtype=torch.bool, device=q.device).triu_(m - n + 1)
            scores.view(heads, n, m).masked_fill_(hidden, -torch.inf)
        lse = scores.logsumexp(-1)
        out = (scores - lse[..., None]).exp_() @ v.float()
        return out.view(heads, n, d).to(q.dtype), lse.view(heads, n)


class Fused(Kernel):
    """A kernel for q `[1, heads, n, d]` and as many heads of keys: those that share keys are folded, or, where rows
    differ in what they see, the few own keys are repeated. The `Sdpa` ones are what torch has behind
    `scaled_dot_product_attention`, called where they return the log-sum-exp."""

    @abstractmethod
    def run(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]: ...

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        heads, n, d = q.shape
        if not causal:
            out, lse = self.run(fold(q, k.shape[0]), k[None], v[None], False)
        elif self.aligns_at_end:
            out, lse = self.run(q[None], k[None], v[None], True)
        else:
            assert k.shape[1] == n, f"{self} computes causal attention over its own rows alone"
            out, lse = self.run(q[None], repeat(k, heads), repeat(v, heads), True)
        return out.reshape(heads, n, d), lse.reshape(heads, n)


class SdpaCpu(Fused):
    def run(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)


class SdpaFlash(Fused):
    """CUDA, float16 and bfloat16."""

    aligns_at_end = True

    def run(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
        return out, lse


class SdpaEfficient(Fused):
    """CUDA, float32."""

    def run(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, causal)
        return out, lse[..., : q.shape[2]]


class FlashAttention2(Kernel):
    """The flash-attn package."""

    aligns_at_end = True

    def __init__(self) -> None:
        from flash_attn import flash_attn_func

        self.function = flash_attn_func

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        rows = [x.transpose(0, 1)[None] for x in (q, k, v)]
        out, lse, _ = self.function(*rows, causal=causal, return_attn_probs=True)
        return out[0].transpose(0, 1), lse[0]


class Flex(Fused):
    """FlexAttention, compiled once for all lengths. CUDA."""

    def __init__(self) -> None:
        from torch.nn.attention.flex_attention import flex_attention

        self.function: Any = torch.compile(flex_attention, dynamic=True)

    def run(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        mask = causal_blocks(q.shape[2], q.device) if causal else None
        return self.function(q, k, v, block_mask=mask, return_lse=True)


@lru_cache(maxsize=16)
def causal_blocks(rows: int, device: torch.device) -> Any:
    """Block mask of causal attention among `rows` rows; chunks are mostly of one length."""
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(lambda b, h, row, key: key <= row, None, None, rows, rows, device=device)


def kernel(name: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel called `name` in `model.attention`, for tensors of `dtype` on `device`, tried on a small case.
    Raises ConfigError."""
    return verified(chosen(name, device, dtype), name, device, dtype)


def verified(attention: Kernel, name: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel, after a comparison with plain matrix products. Fused kernels differ between versions of torch and
    devices in how they align causal masks and return the log-sum-exp, and a wrong result raises no error."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(heads, rows, 64, generator=generator).to(device, dtype) for heads, rows in _TRIED)
    own = k[:, -q.shape[1] :], v[:, -q.shape[1] :]
    cases = [(k, v, False), (*own, True), *([(k, v, True)] if attention.aligns_at_end else [])]
    allowed = 1e-4 if dtype == torch.float32 else 5e-2
    for keys, values, causal in cases:
        try:
            found, expected = attention(q, keys, values, causal), Eager()(q, keys, values, causal)
        except RuntimeError as error:
            raise ConfigError(
                f"model.attention={name} does not run on {device} in {dtype}: {str(error).splitlines()[0]} "
                "Use model.attention=eager."
            ) from error
        off = max(float((a.float() - b.float()).abs().max()) for a, b in zip(found, expected, strict=True))
        if not off <= allowed:
            raise ConfigError(
                f"model.attention={name} computes something else than attention on {device} in {dtype} (off by "
                f"{off:.2g}, torch {torch.__version__}): use model.attention=eager."
            )
    return attention


_TRIED = ((4, 7), (2, 19), (2, 19))
"""Heads and rows of q, k and v."""


def chosen(name: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel called `name`. Raises ConfigError."""
    if name not in ATTENTION:
        raise ConfigError(
            f"model.attention={name} is unknown; it is one of {', '.join(ATTENTION)}.{suggest(name, ATTENTION)}"
        )
    cuda = device.type == "cuda"
    if name == "eager":
        return Eager()
    if name == "sdpa":
        if cuda:
            return SdpaEfficient() if dtype == torch.float32 else SdpaFlash()
        return SdpaCpu() if device.type == "cpu" else Eager()
    if not cuda:
        raise ConfigError(f"model.attention={name} needs a CUDA device, not {device}; use model.attention=sdpa.")
    if name == "flex":
        return Flex()
    if dtype == torch.float32:
        raise ConfigError(
            "model.attention=flash_attention_2 computes in float16 or bfloat16; set model.dtype or use sdpa."
        )
    if importlib.util.find_spec("flash_attn") is None:
        raise ConfigError(f"model.attention=flash_attention_2 needs the flash-attn package: {install_hint('flash')}.")
    return FlashAttention2()


class MergedAttention:
    """Attention of the same rows over several parts, merged in float32 as they come."""

    def __init__(self, out: Tensor, lse: Tensor) -> None:
        self.out, self.lse = out, lse

    def add(self, out: Tensor, lse: Tensor) -> None:
        """Take in the attention over a further part: out <- out + (part - out) * its share of the mass."""
        share = torch.sigmoid(lse - self.lse)[..., None]
        self.out = torch.lerp(self.out.float(), out.float(), share)
        self.lse = torch.logaddexp(self.lse, lse)


def joined(parts: list[Part]) -> Part:
    """Parts behind each other."""
    return torch.cat([k for k, _ in parts], 1), torch.cat([v for _, v in parts], 1)


def attend(attention: Kernel, q: Tensor, history: Iterable[Part], own: Part | None = None) -> MergedAttention:
    """Rows `q` see all of `history` and, causally, the last n keys: their own. A list of parts is small: it is joined
    for one call. An iterator yields what may be long, part by part; each is let go before the next."""
    if isinstance(history, list):
        if own is not None and attention.aligns_at_end:
            return MergedAttention(*attention(q, *joined([*history, own]), causal=True))
        history = [joined(history)] if history else []
    total = MergedAttention(*attention(q, *own, causal=True)) if own is not None else None
    for k, v in history:
        if not k.shape[1]:
            continue
        part = attention(q, k, v)
        if total is None:
            total = MergedAttention(*part)
        else:
            total.add(*part)
    assert total is not None, "attention over no keys"
    return total
