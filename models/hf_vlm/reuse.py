"""One prefill for all questions of a video: the cache of the prefix, and the proof that reusing it changes nothing."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-9}
"""Largest difference of logits that rounding explains, as a share of the largest logit. Sums in another order give
about 1e-6 in float32; positions of another video give 1e-3 and more."""


class PrefixCache:
    """Keys and values of a prefix. A question appends to the cache that `lend` gives; `take_back` undoes that.

    Layers that only append are cropped. Any other kind (sliding window, state of a linear attention) is overwritten by
    the question, so the whole cache is copied for each."""

    def __init__(self, cache: Any, length: int) -> None:
        from transformers.cache_utils import DynamicLayer

        self.cache, self.length = cache, length
        self.croppable = all(type(layer) is DynamicLayer for layer in cache.layers)

    def lend(self) -> Any:
        return self.cache if self.croppable else copy.deepcopy(self.cache)

    def copies(self, count: int) -> Any:
        """A cache for `count` questions at once; it needs no `take_back`."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(count)
        return cache

    def take_back(self) -> None:
        if self.croppable:
            for layer in self.cache.layers:
                if layer.keys is not None:
                    layer.keys = layer.keys[..., : self.length, :]
                    layer.values = layer.values[..., : self.length, :]

    @property
    def nbytes(self) -> int:
        return sum(
            tensor.nbytes
            for layer in self.cache.layers
            for tensor in vars(layer).values()
            if isinstance(tensor, Tensor)
        )


class PositionState:
    """Where the positions of a question begin, for networks with M-RoPE: they keep `rope_deltas`, the distance from a
    token's index to its position, of whatever they read last. With a wrong one answers change without any error.

    What the network leaves there after the prefix is not always right: it takes the largest position of all, and in
    Qwen2.5-VL the times of a long video exceed the position of the text behind it. Text goes on from the token before
    it, so the distance follows from the position of the prefix's last token."""

    def __init__(self, network: Any, inputs: Mapping[str, Any]) -> None:
        modules = [module for module in network.modules() if getattr(module, "rope_deltas", None) is not None]
        self.kept = [(module, _deltas(module, inputs)) for module in modules]

    def restore(self) -> None:
        for module, deltas in self.kept:
            module.rope_deltas = deltas


def _deltas(module: Any, inputs: Mapping[str, Any]) -> Tensor:
    kept: Tensor = module.rope_deltas
    if not hasattr(module, "get_rope_index"):
        return kept
    wanted = inspect.signature(module.get_rope_index).parameters.values()
    if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in inputs for p in wanted):
        return kept
    positions, _ = module.get_rope_index(**{p.name: inputs[p.name] for p in wanted if p.name in inputs})
    return torch.full_like(kept, int(positions[..., -1].max()) + 1 - positions.shape[-1])


@contextmanager
def text_positions(network: Any) -> Iterator[list[list[int]]]:
    """The positions of the tokens in each pass of the language model while the context is open, as far as the network
    hands them over. With M-RoPE they are those of the last dimension, which text has in common with the others."""
    seen: list[list[int]] = []

    def note(module: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        if isinstance(positions, Tensor):
            seen.append(positions.reshape(-1, positions.shape[-1])[-1].tolist())

    hook = network.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def same_positions(reused: Sequence[Sequence[int]], fresh: Sequence[Sequence[int]], tail: int) -> bool:
    """Of the `tail` tokens of the question, and of the first generated token. Exact in any dtype."""
    ends = [[list(step)[-n:] for step, n in zip(steps, (tail, 1), strict=False)] for steps in (reused, fresh)]
    return all(one == other for one, other in zip(*ends, strict=False))


@dataclass(frozen=True)
class Generated:
    """Token ids of a reply, the one that ended it included, and the logits `[n, vocab]` they were chosen from."""

    ids: tuple[int, ...]
    logits: Tensor | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether reuse is right, and the sentence for the manifest."""

    right: bool
    text: str


def compare(reused: Generated, fresh: Generated, dtype: torch.dtype) -> Verdict:
    """Logits of both passes, step by step for as long as both chose the same tokens."""
    assert reused.logits is not None and fresh.logits is not None
    steps = 1 + next(
        (i for i, (a, b) in enumerate(zip(reused.ids, fresh.ids, strict=False)) if a != b),
        min(len(reused.ids), len(fresh.ids)) - 1,
    )
    one, other = reused.logits[:steps].double(), fresh.logits[:steps].double()
    finite = other.isfinite()
    if not finite.any() or not torch.equal(finite, one.isfinite()):
        return Verdict(False, "off: on the first video logits are not finite, or not the same ones in both passes")
    difference = ((one - other)[finite].abs().max() / other[finite].abs().max()).item()
    limit = TOLERANCE[dtype]
    if difference > limit:
        return Verdict(
            False,
            f"off: on the first video logits differ from those of a fresh pass by {difference:.1e} of the largest",
        )
    same = "the same tokens" if reused.ids == fresh.ids else "tokens that differ only where two are as likely"
    return Verdict(
        True, f"proven on the first video against a fresh pass: {same}, logits within {difference:.1e} of the largest"
    )


def same_tokens(prefix: Sequence[int], tail: Sequence[int], whole: Sequence[int]) -> bool:
    return [*prefix, *tail] == list(whole)
