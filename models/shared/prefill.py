"""Streaming prefill: groups come in, keys and values go into the store, and nothing else of the context is kept.

One loop for all policies. Groups are taken in steps (as many as fill `step_rows` rows: a working size that changes no
result); within a step all rows share the matrix products, and attention goes run by run. A run is consecutive groups
whose visual tokens see back to the same group, the window. Its rows all see

    all text before the run | visual tokens from the window on | themselves, causally

and its text rows see the visual tokens before the window too. Each is a contiguous slice of the store: no mask exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evalkit.errors import ModelError

from .attention import Kernel, Softmax, attend
from .kv_store import KVStore
from .layout import Layout, Policy
from .memory import attempt
from .qwen2 import Qwen2Decoder

Group = tuple[Tensor, Tensor]
"""Embeddings of a group: its text `[T, hidden]`, then its visual tokens `[V, hidden]`."""

STEP_ROWS = 2048


@dataclass
class Run:
    """Rows `start:end` of a step; `text` are its text rows within the step. `text_before` and `visual_before` are the
    rows of the store before it, `window` the first visual row that its visual tokens see."""

    start: int
    end: int
    text: Tensor
    text_before: int
    visual_before: int
    window: int


@dataclass
class Step:
    """Rows that go through the layers together, and the addresses of their keys and values in the store."""

    rows: Tensor  # embeddings [n, hidden]
    start: int  # position of the first
    text: Tensor  # which are text
    visual: Tensor
    runs: list[Run]
    after: Layout

    @property
    def positions(self) -> Tensor:
        return torch.arange(self.start, self.start + len(self.rows), device=self.rows.device)


class Prefill:
    """Fills `store` with a context under `policy`. Call `text` for the prefix, `groups`, and `text` for a tail."""

    def __init__(
        self, decoder: Qwen2Decoder, store: KVStore, policy: Policy, attention: Kernel, step_rows: int = STEP_ROWS
    ) -> None:
        self.decoder, self.store, self.policy, self.attention = decoder, store, policy, attention
        self.step_rows = step_rows

    @torch.inference_mode()
    def text(self, embeds: Tensor) -> None:
        """A prefix or a tail `[n, hidden]`."""
        if not len(embeds):
            return
        layout = self.store.layout
        if layout.groups:
            after = Layout(layout.prefix, layout.tail + len(embeds), layout.text, layout.visual)
        else:
            after = Layout(layout.prefix + len(embeds))
        every = torch.arange(len(embeds), device=embeds.device)
        run = Run(0, len(embeds), every, layout.text_tokens, layout.visual_tokens, 0)
        self.take(Step(embeds, layout.length, every, every[:0], [run], after))

    @torch.inference_mode()
    def groups(self, stream: Iterable[Group]) -> None:
        """All groups, as they come."""
        for groups in self.batched(stream):
            self.fit(groups)

    def fit(self, groups: list[Group]) -> None:
        """Take groups in one step; where memory runs out, in ever smaller ones, from here on. Raises ModelError."""
        done, _ = attempt(lambda: self.take(self.step(groups)))
        if done:
            return
        if len(groups) == 1:
            raise ModelError(
                f"Out of memory on {self.decoder.device} at token {self.store.length:,} of the video, one group at a "
                "time. Keep the KV store in host memory (kv_store.device=cpu), or use a larger device.",
                kind="out_of_memory",
            )
        self.step_rows = sum(len(text) + len(visual) for text, visual in groups) // 2
        for fewer in self.batched(groups):
            self.fit(fewer)

    def batched(self, stream: Iterable[Group]) -> Iterator[list[Group]]:
        """At least one group and at most `step_rows` rows at a time, ending with a chunk where that is possible."""
        groups: list[Group] = []
        rows, at = 0, self.store.layout.groups
        cut = 0  # groups in hand that end a chunk
        for group in stream:
            size = len(group[0]) + len(group[1])
            if groups and self.policy.window(at) != self.policy.window(at - 1):
                cut = len(groups)
            if groups and rows + size > self.step_rows:
                ready = cut or len(groups)
                yield groups[:ready]
                groups, cut = groups[ready:], 0
                rows = sum(len(text) + len(visual) for text, visual in groups)
            groups.append(group)
            rows += size
            at += 1
        if groups:
            yield groups

    def step(self, groups: list[Group]) -> Step:
        """Where the rows of `groups` go, and what they see."""
        before = self.store.layout
        after = before.extended((len(text), len(visual)) for text, visual in groups)
        first, start = before.groups, before.length
        is_text = torch.cat([torch.arange(len(t) + len(v)) < len(t) for t, v in groups])
        windows = [self.policy.window(group) for group in range(first, after.groups)]
        runs = []
        for index, window in enumerate(windows):
            if index and window == windows[index - 1]:
                continue
            group = first + index
            until = next((first + i for i in range(index, len(windows)) if windows[i] != window), after.groups)
            rows = range(after.starts[group] - start, after.starts[until] - start)
            text = is_text[rows.start : rows.stop].nonzero()[:, 0] + rows.start
            runs.append(
                Run(
                    rows.start,
                    rows.stop,
                    text.to(self.decoder.device),
                    after.text_rows[group],
                    after.visual_rows[group],
                    after.visual_rows[window],
                )
            )
        embeds = torch.cat([part for group in groups for part in group])
        text, visual = (which.nonzero()[:, 0].to(embeds.device) for which in (is_text, ~is_text))
        return Step(embeds, start, text, visual, runs, after)

    def take(self, step: Step) -> None:
        """Run `step` through the layers. Where this fails, the store is as it was."""
        store = self.store
        store.make_room(step.after)
        store.place(step.positions, step.text, step.visual)
        last = len(self.decoder.layers) - 1

        def keep(layer: int, unrotated: Tensor, rotated: Tensor, v: Tensor) -> None:
            store.write(layer, step.text, step.visual, unrotated, rotated, v)

        def see(layer: int, q: Tensor, unrotated: Tensor, rotated: Tensor, v: Tensor) -> Tensor:
            keep(layer, unrotated, rotated, v)
            out = torch.empty_like(q)
            for run in step.runs:
                self.attend(layer, run, q, rotated, v, out)
            return out

        self.decoder.fill(step.rows, step.positions, see, lambda *kv: keep(last, *kv))
        store.commit(step.after)

    def attend(self, layer: int, run: Run, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """Attention of one run, into its rows of `out`."""
        store, own = self.store, slice(run.start, run.end)
        near = store.near(layer, run.text_before, run.window, run.visual_before)
        seen = attend(self.attention, q[:, own], near, (k[:, own], v[:, own]))
        out[:, own] = seen.out
        if run.window and len(run.text):
            far = attend(self.attention, q[:, run.text], store.blocks(store.visual, layer, 0, run.window))
            total = Softmax(seen.out[:, run.text - run.start], seen.lse[:, run.text - run.start])
            total.add(far.out, far.lse)
            out[:, run.text] = total.out.to(out.dtype)
