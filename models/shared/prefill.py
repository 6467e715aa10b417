"""Streaming prefill: groups come in, keys and values go into the store, and nothing else of the context is kept.

One loop for all policies. Groups are taken in steps (as many as fill `step_rows` rows: a working size that changes no
result); within a step all rows share the matrix products, and attention goes run by run. A run is consecutive groups
whose visual tokens see back to the same group, the window. Its rows all see

    all text before the run | visual tokens from the window on | themselves, causally

and, unless the policy is `Streaming`, its text rows see the visual tokens before the window too. Each is a contiguous
slice of the store: no mask exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import Kernel, MergedAttention, attend
from .kv_store import KVStore
from .layout import STEP_ROWS, TEXT, VISUAL, Layout, Policy
from .memory import out_of_memory, try_in_memory
from .qwen2 import Qwen2Decoder

Group = tuple[Tensor, Tensor]
"""Embeddings of a group: its text `[T, hidden]`, then its visual tokens `[V, hidden]`."""


@dataclass
class WindowRows:
    """Rows `start:end` of a step; `text` says which of the step's text rows are among them. `text_before` and
    `visual_before` are the rows of the store before it, `window` the first visual row that its visual tokens see."""

    start: int
    end: int
    text: slice
    text_before: int
    visual_before: int
    window: int


@dataclass
class Step:
    """Rows that go through the layers together, and the addresses of their keys and values in the store."""

    rows: Tensor  # embeddings [n, hidden]
    start: int  # position of the first
    which: dict[str, Tensor]  # which of them are of each kind
    runs: list[WindowRows]
    after: Layout

    @property
    def text(self) -> Tensor:
        return self.which[TEXT]

    @property
    def positions(self) -> Tensor:
        return torch.arange(self.start, self.start + len(self.rows), device=self.rows.device)


class Prefill:
    """Fills `store` with a context under `policy`. Call `text` for the prefix, `groups`, and `text` for a tail."""

    def __init__(
        self,
        decoder: Qwen2Decoder,
        store: KVStore[Layout],
        policy: Policy,
        attention: Kernel,
        step_rows: int = STEP_ROWS,
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
        run = WindowRows(0, len(embeds), slice(0, len(embeds)), layout.text_tokens, layout.visual_tokens, 0)
        self.take(Step(embeds, layout.length, {TEXT: every}, [run], after))

    @torch.inference_mode()
    def groups(self, stream: Iterable[Group]) -> None:
        """All groups, as they come."""
        for groups in self.batched(stream):
            self.fit(groups)

    def fit(self, groups: list[Group]) -> None:
        """Take groups in one step; where memory runs out, in ever smaller ones, from here on. Raises ModelError."""
        done, _ = try_in_memory(lambda: self.take(self.step(groups)))
        if done:
            return
        if len(groups) == 1:
            raise out_of_memory(
                self.decoder.device,
                f"at token {self.store.length:,} of the video, one group at a time",
                "Keep the KV store in host memory (kv_store.device=cpu), or use a larger device.",
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
        windows = [self.policy.window(group) for group in range(first, after.groups)]
        starts = [at for at in range(len(windows)) if not at or windows[at] != windows[at - 1]]
        runs = [
            WindowRows(
                start=after.starts[first + at] - start,
                end=after.starts[first + until] - start,
                text=slice(
                    after.text_rows[first + at] - before.text_tokens,
                    after.text_rows[first + until] - before.text_tokens,
                ),
                text_before=after.text_rows[first + at],
                visual_before=after.visual_rows[first + at],
                window=after.visual_rows[windows[at]],
            )
            for at, until in zip(starts, [*starts[1:], len(windows)], strict=True)
        ]
        embeds = torch.cat([part for group in groups for part in group])
        is_text = torch.cat([torch.arange(len(text) + len(visual)) < len(text) for text, visual in groups])
        text, visual = (which.nonzero()[:, 0].to(embeds.device) for which in (is_text, ~is_text))
        return Step(embeds, start, {TEXT: text, VISUAL: visual}, runs, after)

    def take(self, step: Step) -> None:
        """Run `step` through the layers. Where this fails, the store is as it was."""
        store = self.store
        store.reserve(step.after)
        store.set_positions(step.positions, step.which)
        last = len(self.decoder.layers) - 1

        def keep(layer: int, unrotated: Tensor, rotated: Tensor, v: Tensor) -> None:
            store.write(layer, step.which, unrotated, rotated, v)

        def see(layer: int, q: Tensor, unrotated: Tensor, rotated: Tensor, v: Tensor) -> Tensor:
            keep(layer, unrotated, rotated, v)
            return self.attend(layer, step, q, rotated, v)

        self.decoder.fill(step.rows, step.positions, see, lambda *kv: keep(last, *kv))
        store.commit(step.after)

    def attend(self, layer: int, step: Step, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all rows of a step. What lies before the first window is read once, for the text of all runs."""
        store, out = self.store, torch.empty_like(q)
        early = step.runs[0].window if self.policy.text_sees_all else 0
        far = None
        if early and len(step.text):
            far = attend(self.attention, q[:, step.text], store.blocks(VISUAL, layer, 0, early))
        for run in step.runs:
            own = slice(run.start, run.end)
            near = store.slices(layer, [(TEXT, 0, run.text_before), (VISUAL, run.window, run.visual_before)])
            seen = attend(self.attention, q[:, own], near, (k[:, own], v[:, own]))
            out[:, own] = seen.out
            text = step.text[run.text]
            if not run.window or not len(text) or not self.policy.text_sees_all:
                continue
            total = MergedAttention(seen.out[:, text - run.start], seen.lse[:, text - run.start])
            if far is not None:
                total.add(far.out[:, run.text], far.lse[:, run.text])
            if run.window > early:
                between = attend(self.attention, q[:, text], store.blocks(VISUAL, layer, early, run.window))
                total.add(between.out, between.lse)
            out[:, text] = total.out.to(out.dtype)
        return out
