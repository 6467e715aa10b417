"""Token generation behind a memory: a KV store, or what was assembled for a question. Neither is changed by it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from evalkit.types import Decoding

from .attention import Kernel, MergedAttention, Part, attend
from .qwen2 import Qwen2Decoder


class Memory(Protocol):
    """Keys and values that questions attend to. `length` is the position of the first token behind it."""

    @property
    def length(self) -> int: ...

    def parts(self, layer: int) -> Iterable[Part]: ...


class QuestionRows:
    """Keys and values of one question and its answer, behind a memory."""

    def __init__(self, decoder: Qwen2Decoder, capacity: int) -> None:
        size = decoder.size
        shape = (size.layers, size.kv_heads, capacity, size.head_dim)
        self.keys = torch.empty(shape, dtype=decoder.dtype, device=decoder.device)
        self.values = torch.empty_like(self.keys)
        self.count = 0

    def attend(self, attention: Kernel, layer: int, q: Tensor, k: Tensor, v: Tensor) -> MergedAttention:
        """New rows see the earlier rows of this question and, causally, themselves."""
        start, end = self.count, self.count + k.shape[1]
        self.keys[layer, :, start:end] = k
        self.values[layer, :, start:end] = v
        alone = end - start == 1  # a single row sees itself as it sees the rest
        before = slice(0, end if alone else start)
        earlier = (self.keys[layer, :, before], self.values[layer, :, before])
        return attend(attention, q, iter([earlier]), None if alone else (k, v))


@torch.inference_mode()
def extend(
    decoder: Qwen2Decoder, attention: Kernel, memory: Memory, asked: Sequence[QuestionRows], embeds: Sequence[Tensor]
) -> list[Tensor]:
    """Append rows `[n, hidden]` to each question: what leaves the last layer, for each. The questions share matrix
    products and read the memory once."""
    counts = [len(rows) for rows in embeds]
    starts = [memory.length + question.count for question in asked]
    positions = torch.cat([torch.arange(start, start + n) for start, n in zip(starts, counts, strict=True)])

    def see(layer: int, q: Tensor, unrotated: Tensor, k: Tensor, v: Tensor) -> Tensor:
        common = attend(attention, q, iter(memory.parts(layer)))
        end, out = 0, []
        for question, count in zip(asked, counts, strict=True):
            rows, end = slice(end, end + count), end + count
            total = MergedAttention(common.out[:, rows], common.lse[:, rows])
            own = question.attend(attention, layer, q[:, rows], k[:, rows], v[:, rows])
            total.add(own.out, own.lse)
            out.append(total.out.to(q.dtype))
        return torch.cat(out, 1)

    hidden = decoder.run(torch.cat(list(embeds)), positions.to(decoder.device), see)
    for question, count in zip(asked, counts, strict=True):
        question.count += count
    return list(hidden.split(counts))


@dataclass
class Generated:
    """Token ids of an answer without the one that ended it, and what they took. Batched questions share the clock."""

    ids: list[int] = field(default_factory=list)
    finish: str = "length"  # stop | length
    passes: int = 0  # forward passes, one for each token sampled, the stop token included
    question_s: float = 0.0
    generate_s: float = 0.0


@torch.inference_mode()
def generate(
    decoder: Qwen2Decoder,
    attention: Kernel,
    memory: Memory,
    questions: Sequence[Sequence[int]],
    decoding: Decoding,
    stop: Collection[int],
    step_rows: int | None = None,
) -> list[Generated]:
    """Answer `questions` (token ids) about one memory. Batched or not, a question sees the same; but its sums are taken
    in another order, so that an answer may flip where two tokens are all but equally likely. `step_rows`: take each
    question in pieces of so many tokens, for less working memory."""
    started = time.perf_counter()
    answers = [Generated() for _ in questions]
    asked = [QuestionRows(decoder, len(ids) + decoding.max_new_tokens) for ids in questions]
    samplers = [Sampler(decoding, decoder.device) for _ in questions]
    fed = list(questions)
    if step_rows:
        fed = [lead_in(decoder, attention, memory, t, ids, step_rows) for t, ids in zip(asked, questions, strict=True)]
    running = list(range(len(questions)))
    while running:
        embeds = [decoder.embed(torch.tensor(fed[i], device=decoder.device)) for i in running]
        hidden = extend(decoder, attention, memory, [asked[i] for i in running], embeds)
        logits = decoder.logits(torch.stack([rows[-1] for rows in hidden]))
        tokens = {i: samplers[i](row, answers[i].ids) for i, row in zip(running, logits, strict=True)}
        now = time.perf_counter() - started
        for i, token in tokens.items():
            answer = answers[i]
            if not answer.question_s:
                answer.question_s = now
            answer.generate_s = now - answer.question_s
            answer.passes += 1
            if token in stop:
                answer.finish = "stop"
            else:
                answer.ids.append(token)
            fed[i] = [token]
        running = [i for i in running if answers[i].finish != "stop" and len(answers[i].ids) < decoding.max_new_tokens]
    return answers


def lead_in(
    decoder: Qwen2Decoder, attention: Kernel, memory: Memory, question: QuestionRows, ids: Sequence[int], step_rows: int
) -> Sequence[int]:
    """Feed a question, `step_rows` of its tokens at a time, as long as more than that are left: returns those left."""
    while len(ids) > step_rows:
        piece = torch.tensor(ids[:step_rows], device=decoder.device)
        extend(decoder, attention, memory, [question], [decoder.embed(piece)])
        ids = ids[step_rows:]
    return ids


def penalised(logits: Tensor, ids: Sequence[int], penalty: float) -> Tensor:
    """`logits [vocab]` with those of the tokens `ids` divided by `penalty` where positive, multiplied where negative
    (Keskar et al., arXiv:1909.05858), as transformers' RepetitionPenaltyLogitsProcessor does."""
    if penalty == 1 or not ids:
        return logits
    seen = torch.tensor(sorted(set(ids)), device=logits.device)
    found = logits[seen]
    return logits.index_copy(0, seen, torch.where(found < 0, found * penalty, found / penalty))


class Sampler:
    """Logits `[vocab]` to a token id: the likeliest at temperature 0, else drawn from the nucleus of mass `top_p`
    (Holtzman et al., arXiv:1904.09751). Each answer has a generator of its own, so that order never matters.

    `decoding.repetition_penalty` applies to the tokens generated so far and not to the prompt: the authors' code gives
    `generate` the prompt as embeddings, so that the prompt's ids are not known to it."""

    def __init__(self, decoding: Decoding, device: torch.device) -> None:
        self.decoding = decoding
        self.random = torch.Generator(device).manual_seed(decoding.seed) if decoding.temperature > 0 else None

    def __call__(self, logits: Tensor, ids: Sequence[int] = ()) -> int:
        """`ids`: the tokens generated so far."""
        logits = penalised(logits, ids, self.decoding.repetition_penalty or 1.0)
        if self.random is None:
            return int(logits.argmax())
        mass, tokens = (logits / self.decoding.temperature).softmax(-1).sort(descending=True)
        nucleus = mass.cumsum(-1) - mass < self.decoding.top_p
        nucleus[0] = True
        return int(tokens[torch.multinomial(mass * nucleus, 1, generator=self.random)])
