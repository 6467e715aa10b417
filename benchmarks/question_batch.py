"""The gain in time from batching the questions of one video, and the change in answers.

    OMP_NUM_THREADS=2 python benchmarks/question_batch.py [--frames 512] [--questions 16]

Small random model, dense store, 40 tokens of question and 16 of answer each. A batch shares the matrix products and
reads the store once. Its sums are computed in another order, so that answers can differ where two tokens are almost
equally likely; therefore model.question_batch=1 is the default. `logits off by`: largest difference from batch 1.
"""

from __future__ import annotations

import argparse

import torch
from bench import SUFFIX, best_of, prefilled, small_model, table

from evalkit.models.shared.attention import kernel
from evalkit.models.shared.generate import QuestionRows, extend, generate
from evalkit.models.shared.layout import Chunked
from evalkit.types import Decoding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    decoder = small_model()
    attention = kernel("sdpa", decoder.device, decoder.dtype)
    store = prefilled(decoder, options.frames, Chunked(4, 3))
    generator = torch.Generator().manual_seed(1)
    asked = torch.randint(0, 1000, (options.questions, SUFFIX), generator=generator).tolist()

    def answers(batch: int) -> list[list[int]]:
        parts = (asked[at : at + batch] for at in range(0, len(asked), batch))
        return [a.ids for part in parts for a in generate(decoder, attention, store, part, Decoding(16), ())]

    def logits(batch: int) -> torch.Tensor:
        out = []
        for at in range(0, len(asked), batch):
            rows = [decoder.embed(torch.tensor(ids)) for ids in asked[at : at + batch]]
            hidden = extend(decoder, attention, store, [QuestionRows(decoder, SUFFIX) for _ in rows], rows)
            out += [decoder.logits(rows[-1]) for rows in hidden]
        return torch.stack(out)

    single, exact = answers(1), logits(1)
    batches = [batch for batch in (1, 2, 4, 8, 16) if batch <= options.questions]
    seconds = dict.fromkeys(batches, float("inf"))
    for _ in range(options.rounds):
        for batch in batches:
            seconds[batch] = min(seconds[batch], best_of(lambda batch=batch: answers(batch), 1))
    rows = []
    for batch in batches:
        same = sum(a == b for a, b in zip(answers(batch), single, strict=True))
        off = float((logits(batch) - exact).abs().max() / exact.std())
        gain = f"{seconds[1] / seconds[batch]:.2f}x"
        rows.append((batch, f"{seconds[batch]:.2f}", gain, f"{same} of {len(asked)}", f"{off:.1e}"))
    print(f"{options.frames} frames, {store.length} tokens, {torch.get_num_threads()} threads\n")
    print(table(("batch", "seconds", "gain", "same answers", "logits off by"), rows))


if __name__ == "__main__":
    main()
